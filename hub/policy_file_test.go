package hub

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

const goodRoute = `
[[route]]
id = "A1"
when = ["attack"]
to = ["ministry"]
identity = "named"
obligation = "must"
act = "auto"
source = "根拠"
`

const goodDuty = `
[[duty]]
id = "D1"
law = "法"
designation = "special"
to = ["ministry"]
source = "根拠"
`

func faultsOf(t testing.TB, text string) []PolicyFault {
	t.Helper()
	_, err := parsePolicy("p.toml", []byte(text))
	wrong, ok := errors.AsType[*PolicyError](err)
	require.True(t, ok, "%v", err)
	require.NotEmpty(t, wrong.Faults)
	for _, f := range wrong.Faults {
		require.NotEmpty(t, f.English)
		require.True(t, strings.ContainsFunc(f.Japanese, func(r rune) bool { return r > 0x3000 }), f.Japanese)
		at := fmt.Sprintf("p.toml:%d: ", f.Line)
		require.Contains(t, wrong.Error(), at+f.English)
		require.Contains(t, wrong.Japanese(), at+f.Japanese)
		require.GreaterOrEqual(t, f.Line, 1)
		require.LessOrEqual(t, f.Line, strings.Count(text, "\n")+1)
	}
	return wrong.Faults
}

// Each text has one mistake; «» marks the place that the error must point at.
func TestEveryMistakeInAPolicyIsToldWithItsLine(t *testing.T) {
	head := "version = \"1\"\n"
	route := func(old, new string) string {
		text := strings.Replace(goodRoute, old, new, 1)
		require.NotEqual(t, goodRoute, text, old)
		return head + text
	}
	duty := func(old, new string) string {
		text := strings.Replace(goodDuty, old, new, 1)
		require.NotEqual(t, goodDuty, text, old)
		return head + text
	}
	community := func(rows ...string) string {
		return head + "[[community]]\n" + strings.Join(rows, "\n[[community]]\n")
	}
	for name, c := range map[string]struct{ text, reason, says string }{
		"not TOML":                          {head + "«route = [", "TOML_INVALID", ""},
		"a key twice":                       {head + "«version = \"2\"", "TOML_INVALID", "already"},
		"not UTF-8":                         {head + "«# \xff\n", "TOML_INVALID", ""},
		"version missing":                   {"«\n" + goodRoute, "VERSION_MISSING", "version ="},
		"version empty":                     {"\n«version = \"\"", "VERSION_MISSING", ""},
		"version too long":                  {"«version = \"" + strings.Repeat("版", 65) + "\"", "VERSION_INVALID", "64"},
		"version of two lines":              {"\n\n«version = \"a\\nb\"", "VERSION_INVALID", ""},
		"version is a number":               {"\n«version = 3", "VALUE_INVALID", `version = "…"`},
		"unknown key":                       {head + "\n«colour = 1", "UNKNOWN_KEY", "colour"},
		"key in capitals":                   {"«Version = \"1\"\nversion = \"1\"", "UNKNOWN_KEY", "Version"},
		"unknown key of a row":              {route(`when =`, `«wehn =`), "UNKNOWN_KEY", "when, any, unless"},
		"unknown key of an inline row":      {head + "community = [\n{id = \"a\"},\n{id = \"b\",\n«name2 = \"x\"}]", "UNKNOWN_KEY", "name2"},
		"unknown table":                     {head + "«[quux]\na = 1", "UNKNOWN_KEY", "quux"},
		"unknown key below a row":           {head + goodRoute + "«[route.more]\n", "UNKNOWN_KEY", "route.more"},
		"a row as a table":                  {head + "\n«[duty]\nid = \"D1\"", "TABLE_SINGLE", "[[duty]]"},
		"a row as a dotted key":             {head + "«duty.id = \"D1\"", "TABLE_SINGLE", "[[duty]]"},
		"flows as rows":                     {head + "«[[flows]]\noperator = \"peer\"", "VALUE_INVALID", ""},
		"unknown role in to":                {route(`["ministry"]`, "[\n\"ministry\", \"police\",\n  «\"polcie\" ]"), "WORD_UNKNOWN", "regional_transport"},
		"unknown role in from":              {route(`when =`, "from = [«\"operators\"]\nwhen ="), "WORD_UNKNOWN", "operator"},
		"unknown role in by":                {route(`"auto"`, "\"task\"\n«by = \"mlit\""), "WORD_UNKNOWN", "ministry"},
		"role in capitals":                  {route(`["ministry"]`, `[«"MINISTRY"]`), "WORD_UNKNOWN", "ministry"},
		"unspecified role":                  {route(`["ministry"]`, `[«"unspecified"]`), "WORD_UNKNOWN", ""},
		"unknown fact":                      {route(`["attack"]`, `[«"atack"]`), "WORD_UNKNOWN", "business_impact"},
		"unknown fact in any":               {route(`when =`, "any = [«\"x\"]\nwhen ="), "WORD_UNKNOWN", "near_miss"},
		"unknown fact in unless":            {route(`when =`, "unless = [«\"x\"]\nwhen ="), "WORD_UNKNOWN", "near_miss"},
		"a fact twice":                      {route(`["attack"]`, "[\"attack\",\n«\"attack\"]"), "WORD_TWICE", "attack"},
		"a role twice":                      {route(`["ministry"]`, "[\"ministry\",\n«\"ministry\"]"), "WORD_TWICE", "ministry"},
		"unknown act":                       {route(`act = "auto"`, `«act = "automatic"`), "WORD_UNKNOWN", "auto, prompt, task, export"},
		"unknown identity":                  {route(`identity = "named"`, `«identity = "anonymous"`), "WORD_UNKNOWN", "named, projected, anonymised"},
		"unknown obligation":                {route(`obligation = "must"`, `«obligation = "shall"`), "WORD_UNKNOWN", "law, must, plan, should, may"},
		"unknown flow":                      {head + "[flows]\noperator = \"peer\"\n«ministry = \"full\"", "WORD_UNKNOWN", "authority, peer, expert, public, status"},
		"a flow that a policy cannot give":  {head + "[flows]\n«expert = \"expert_nda\"", "WORD_UNKNOWN", "expert"},
		"unknown role of a flow":            {head + "flows = {operator = \"peer\",\n«carrier = \"peer\"}", "WORD_UNKNOWN", "operator"},
		"peers as authorities":              {head + "[flows]\n«operator = \"authority\"", "PEERS_SEE_VICTIM", "peer"},
		"the public's flow for the ISAC":    {head + "[flows]\n«isac = \"public\"", "PEERS_SEE_VICTIM", "peer"},
		"a state for the council":           {head + "[flows]\n«council = \"status\"", "PEERS_SEE_VICTIM", "peer"},
		"a whole report to peers":           {route("to = [\"ministry\"]\nidentity", "to = [\"ministry\", \"operator\"]\n«identity"), "PEERS_SEE_VICTIM", "projected"},
		"a whole report of all to peers":    {route("when = [\"attack\"]\nto = [\"ministry\"]\nidentity", "when = [\"notice\"]\nto = [\"operator\"]\n«identity"), "PEERS_SEE_VICTIM", "issuers"},
		"unknown issuer":                    {"issuers = [\n\"isac\",\n«\"cert\"]\n" + head, "WORD_UNKNOWN", "expert"},
		"an issuer twice":                   {"issuers = [\n\"isac\",\n«\"isac\"]\n" + head, "WORD_TWICE", ""},
		"rows of one id at one time":        {head + goodRoute + strings.Replace(goodRoute, "[[", "«[[", 1), "DATES_OVERLAP", "line 3"},
		"rows of one id that overlap a day": {route(`when =`, "end = 2026-10-02\nwhen =") + strings.Replace(goodRoute, "[[route]]", "«[[route]]\nstart = 2026-10-01", 1), "DATES_OVERLAP", ""},
		"a duty with the id of a route":     {head + goodRoute + strings.Replace(strings.Replace(goodDuty, "D1", "A1", 1), "[[", "«[[", 1), "DATES_OVERLAP", "A1"},
		"duties of one id at one time":      {head + goodDuty + strings.Replace(goodDuty, "[[", "«[[", 1), "DATES_OVERLAP", "D1"},
		"communities of one id at one time": {community(`id = "a"`, `id = "b"`) + "\n«[[community]]\nid = \"a\"", "DATES_OVERLAP", "a"},
		"own organisation beside others":    {route(`["ministry"]`, `["ministry", «"own_organisation"]`), "WORD_ALONE", ""},
		"dates the wrong way":               {route(`when =`, "start = 2026-10-01\n«end = 2026-10-01\nwhen ="), "DATES_REVERSED", ""},
		"a date in quotes":                  {route(`when =`, "«start = \"2026-10-01\"\nwhen ="), "DATE_INVALID", "2026-10-01"},
		"a time without a date":             {route(`when =`, "«start = 10:00:00\nwhen ="), "DATE_INVALID", ""},
		"parent missing":                    {community(`id = "a"`) + "\n«[[community]]\nid = \"b\"\nparent = \"c\"", "PARENT_MISSING", "c"},
		"parent ends before its child":      {community("id = \"a\"\nend = 2026-10-01") + "\n«[[community]]\nid = \"b\"\nparent = \"a\"", "PARENT_MISSING", "match the dates"},
		"parent begins after its child":     {community("id = \"a\"\nstart = 2026-10-01") + "\n«[[community]]\nid = \"b\"\nparent = \"a\"", "PARENT_MISSING", ""},
		"community in itself":               {community("id = \"a\"\n«parent = \"a\""), "COMMUNITY_CYCLE", ""},
		"community id invalid":              {community("\n«id = \"A b\""), "ID_INVALID", ""},
		"row id invalid":                    {route(`id = "A1"`, `«id = "A 1"`), "ID_INVALID", ""},
		"row id taken":                      {route(`id = "A1"`, `«id = "ADDRESSED"`), "ID_INVALID", "EVERY_MEMBER"},
		"backlog of amber":                  {head + "[backlog]\ngreen = \"1d\"\n«amber = \"1d\"", "BACKLOG_LABEL", "amber"},
		"backlog of red":                    {head + "«backlog.red = \"1d\"", "BACKLOG_LABEL", ""},
		"backlog negative":                  {head + "[backlog]\n«clear = \"-1d\"", "TIME_SPAN_INVALID", ""},
		"backlog over a year":               {head + "[backlog]\n«clear = \"366d\"", "BACKLOG_TOO_LONG", "365"},
		"backlog over a year in hours":      {head + "[backlog]\n«green = \"8761h\"", "BACKLOG_TOO_LONG", ""},
		"backlog that is no time":           {head + "[backlog]\n«clear = \"a month\"", "TIME_SPAN_INVALID", "30d"},
		"backlog beyond all numbers":        {head + "[backlog]\n«clear = \"99999999999999999999d\"", "TIME_SPAN_INVALID", ""},
		"backlog as a number":               {head + "[backlog]\n«clear = 30", "VALUE_INVALID", ""},
		"task without by":                   {route(`act = "auto"`, `«act = "task"`), "BY_MISSING", "by ="},
		"by without task":                   {route(`act =`, "«by = \"ministry\"\nact ="), "BY_UNUSED", ""},
		"export without form":               {route(`act = "auto"`, `«act = "export"`), "FORM_MISSING", "outside = true"},
		"form without export":               {route(`act =`, "«form = \"x\"\nact ="), "FORM_UNUSED", ""},
		"anonymised to others":              {route(`identity = "named"`, `«identity = "anonymised"`), "ANONYMISED_ELSEWHERE", "secretariat"},
		"never fires":                       {route(`when =`, "unless = [«\"attack\"]\nwhen ="), "NEVER_FIRES", "attack"},
		"a list that is a word":             {route(`when = ["attack"]`, `«when = "attack"`), "VALUE_INVALID", "when = ["},
		"a switch that is a word":           {route(`when =`, "«near = \"yes\"\nwhen ="), "VALUE_INVALID", "near = true"},
		"text of two lines":                 {route(`source = "根拠"`, `«source = "a\nb"`), "TEXT_INVALID", ""},
		"text too long":                     {route(`source = "根拠"`, `«source = "`+strings.Repeat("x", 2001)+`"`), "TEXT_INVALID", ""},
		"duty to an unknown role":           {duty(`["ministry"]`, `[«"minister"]`), "WORD_UNKNOWN", ""},
		"duty to the own organisation":      {duty(`["ministry"]`, `[«"own_organisation"]`), "WORD_UNKNOWN", ""},
		"duty with an invalid designation":  {duty(`designation = "special"`, `«designation = "特別"`), "DESIGNATION_INVALID", ""},
		"duty due at once":                  {duty(`law =`, "«preliminary = \"0d\"\nlaw ="), "TIME_SPAN_INVALID", ""},
		"duty in detail before at first":    {duty(`law =`, "preliminary = \"30d\"\n«detailed = \"3d\"\nlaw ="), "DEADLINES_REVERSED", ""},
		"a key of a route in a duty":        {duty(`law =`, "«identity = \"anonymised\"\nlaw ="), "UNKNOWN_KEY", "designation"},
		"lines counted as Windows writes them": {strings.ReplaceAll(route(`act = "auto"`, `«act = "x"`), "\n", "\r\n"),
			"WORD_UNKNOWN", ""},
		"lines counted after a long text":  {head + "issuers = [\n# «»\n\n\n]\n[flows]\n«x = \"peer\"", "WORD_UNKNOWN", ""},
		"lines counted after a byte order": {"\xef\xbb\xbf" + head + "\n«x = 1", "UNKNOWN_KEY", ""},
	} {
		t.Run(name, func(t *testing.T) {
			at := strings.LastIndex(c.text, "«")
			require.GreaterOrEqual(t, at, 0)
			line := strings.Count(c.text[:at], "\n") + 1
			faults := faultsOf(t, strings.NewReplacer("«", "", "»", "").Replace(c.text))
			require.Len(t, faults, 1, "%v", faults)
			require.Equal(t, c.reason, faults[0].Reason, "%v", faults)
			require.Equal(t, line, faults[0].Line, "%v", faults)
			require.Contains(t, faults[0].English, c.says)
		})
	}
}

func TestWhatIsMissingIsToldAtTheHeadOfItsRow(t *testing.T) {
	for key, reason := range map[string]string{
		"id": "ID_MISSING", "to": "TO_MISSING", "identity": "WORD_MISSING", "obligation": "WORD_MISSING", "act": "WORD_MISSING", "source": "SOURCE_MISSING",
	} {
		faults := faultsOf(t, "version = \"1\"\n\n"+goodDuty+without(t, goodRoute, key))
		require.Equal(t, []PolicyFault{{Line: 11, Reason: reason, Japanese: faults[0].Japanese, English: faults[0].English}}, faults, key)
	}
	for key, reason := range map[string]string{
		"id": "ID_MISSING", "law": "LAW_MISSING", "designation": "DESIGNATION_INVALID", "to": "ADDRESSEE_MISSING", "source": "SOURCE_MISSING",
	} {
		faults := faultsOf(t, "version = \"1\"\n"+goodRoute+without(t, goodDuty, key))
		require.Equal(t, []PolicyFault{{Line: 12, Reason: reason, Japanese: faults[0].Japanese, English: faults[0].English}}, faults, key)
	}
}

// without takes the line of a key out of a row.
func without(t testing.TB, row, key string) string {
	t.Helper()
	var lines []string
	for line := range strings.SplitSeq(row, "\n") {
		if !strings.HasPrefix(line, key+" =") {
			lines = append(lines, line)
		}
	}
	require.Len(t, lines, strings.Count(row, "\n"))
	return strings.Join(lines, "\n")
}

func TestManyMistakesAreToldAtOnceInTheOrderOfTheFile(t *testing.T) {
	faults := faultsOf(t, `colour = 1
[[route]]
id = "A"
when = ["atack"]
to = ["police", "polcie"]
identity = "named"
act = "task"
source = "根拠"
[[community]]
id = "a"
parent = "b"
[[community]]
id = "b"
parent = "c"
[[community]]
id = "c"
parent = "b"
`)
	var got []string
	for _, f := range faults {
		got = append(got, fmt.Sprintf("%d %s", f.Line, f.Reason))
	}
	require.Equal(t, []string{
		"1 UNKNOWN_KEY", "1 VERSION_MISSING", "2 WORD_MISSING", "4 WORD_UNKNOWN", "5 WORD_UNKNOWN", "7 BY_MISSING",
		"12 COMMUNITY_CYCLE", "15 COMMUNITY_CYCLE",
	}, got, "those of the cycle, not the one that only hangs on it")
}

func TestALawIsNeverAnonymous(t *testing.T) {
	text := strings.NewReplacer(`"named"`, `"anonymised"`, `"must"`, `"law"`, `"ministry"`, `"secretariat"`).Replace(goodRoute)
	faults := faultsOf(t, "version = \"1\""+text)
	require.Len(t, faults, 1)
	require.Equal(t, "LAW_ANONYMISED", faults[0].Reason)
	require.Equal(t, 6, faults[0].Line)
}

func TestAFileOfTooManyBytesOrRowsIsRefused(t *testing.T) {
	faults := faultsOf(t, "version = \"1\"\n#"+strings.Repeat("x", maxPolicy))
	require.Equal(t, "FILE_TOO_LARGE", faults[0].Reason)

	rows := func(n int) string {
		var b strings.Builder
		b.WriteString("\nversion = \"1\"\n")
		for i := range n {
			switch i % 3 {
			case 0:
				b.WriteString(strings.Replace(goodRoute, "A1", fmt.Sprint("A", i), 1))
			case 1:
				b.WriteString(strings.Replace(goodDuty, "D1", fmt.Sprint("D", i), 1))
			case 2:
				fmt.Fprintf(&b, "[[community]]\nid = \"c%d\"\n", i)
			}
		}
		return b.String()
	}
	_, err := parsePolicy("p.toml", []byte(rows(500)))
	require.NoError(t, err)
	faults = faultsOf(t, rows(501))
	require.Len(t, faults, 1)
	require.Equal(t, "TOO_MANY_ROWS", faults[0].Reason)
	require.Equal(t, 2, faults[0].Line)
}

func TestAPolicyIsReadAsItIsWritten(t *testing.T) {
	p, err := parsePolicy("p.toml", []byte(`version = "2026-11"
large_scale = true
issuers = ["isac"]
backlog = { clear = "30d", green = "12h" }
flows.users = "status"
[[community]]
id = "a"
name = "名"
[[community]]
id = "b"
parent = "a"
start = 2026-10-01
end = 2026-12-01T00:00:00Z
[[route]]
id = "A1"
when = ["attack", "incident"]
any = ["tos"]
unless = ["notice"]
from = ["operator"]
by = "ministry"
to = ["police", "coast_guard"]
near = true
identity = "projected"
obligation = "should"
act = "task"
source = "根拠"
outside = true
large_scale = true
off = true
[[route]]
id = "A1-own"
to = ["own_organisation"]
identity = "named"
obligation = "must"
act = "auto"
source = "全角　空白"
[[duty]]
id = "D1"
law = "法"
article = "第5条"
designation = "special"
system = true
to = ["ministry", "cabinet_cyber"]
form = "f"
preliminary = "72h"
detailed = "30d"
source = "根拠"
outside = true
`))
	require.NoError(t, err)
	jst := time.FixedZone("", 9*3600)
	require.Equal(t, "2026-11", p.version)
	require.True(t, p.largeScale)
	require.Equal(t, map[pb.Role]bool{pb.Role_ROLE_ISAC: true}, p.issuers)
	require.Equal(t, map[tlp.Label]time.Duration{tlp.Clear: 720 * time.Hour, tlp.Green: 12 * time.Hour}, p.backlog)
	require.Equal(t, map[pb.Role]pb.Flow{pb.Role_ROLE_USERS: pb.Flow_FLOW_STATUS}, p.flows)
	require.Equal(t, community{line: 6, id: "a", name: "名"}, p.communities[0])
	b := p.communities[1]
	require.True(t, time.Date(2026, 10, 1, 0, 0, 0, 0, jst).Equal(b.from), "a date without a zone begins in Japan: %v", b.from)
	require.True(t, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC).Equal(b.to))
	require.Equal(t, route{
		line: 14, id: "A1", when: []pb.Fact{pb.Fact_FACT_ATTACK, pb.Fact_FACT_INCIDENT}, anyOf: []pb.Fact{pb.Fact_FACT_TOS}, unless: []pb.Fact{pb.Fact_FACT_NOTICE},
		from: []pb.Role{pb.Role_ROLE_OPERATOR}, by: pb.Role_ROLE_MINISTRY, to: []pb.Role{pb.Role_ROLE_POLICE, pb.Role_ROLE_COAST_GUARD}, near: true,
		identity: projected, obligation: should, act: task, sentence: "根拠", outside: true, large: true, off: true,
	}, p.routes[0])
	require.Equal(t, route{line: 30, id: "A1-own", identity: named, obligation: must, act: auto, sentence: "全角　空白"}, p.routes[1])
	require.Equal(t, []duty{{
		line: 37, id: "D1", law: "法", article: "第5条", designation: "special", system: true, to: []pb.Role{pb.Role_ROLE_MINISTRY, pb.Role_ROLE_CABINET_CYBER},
		form: "f", preliminary: 72 * time.Hour, detailed: 720 * time.Hour, sentence: "根拠", outside: true,
	}}, p.duties)
}

func TestRowsOfOneIdFollowEachOther(t *testing.T) {
	p, err := parsePolicy("p.toml", []byte("version = \"1\""+
		strings.Replace(goodRoute, "when", "end = 2026-10-01\nwhen", 1)+
		strings.Replace(goodRoute, "when", "start = 2026-10-01\nend = 2027-04-01\nwhen", 1)+
		strings.Replace(goodRoute, "when", "start = 2027-04-01\nwhen", 1)))
	require.NoError(t, err)
	for _, day := range []string{"2020-01-01", "2026-09-30", "2026-10-01", "2027-03-31", "2027-04-01", "2040-01-01"} {
		at, err := time.ParseInLocation(time.DateOnly, day, zone)
		require.NoError(t, err)
		require.Len(t, p.at(at).routes, 1, day)
	}
}

// The check of dates finds an overlap exactly when there is a day with both.
func TestOverlapIsADayInBoth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		day := func(n int) time.Time {
			if n == 0 {
				return time.Time{}
			}
			return tableDay.AddDate(0, 0, n)
		}
		draw := func(name string) period {
			from := rapid.IntRange(0, 5).Draw(t, name)
			to := rapid.SampledFrom([]int{0, from + 1, from + 2}).Draw(t, name+" to")
			return period{day(from), day(to)}
		}
		a, b := draw("a"), draw("b")
		both := false
		for n := -1; n < 10; n++ {
			at := tableDay.AddDate(0, 0, n)
			both = both || a.holds(at) && b.holds(at)
		}
		require.Equal(t, both, a.overlaps(b))
		require.Equal(t, both, b.overlaps(a))
	})
}

// A tree of communities is accepted exactly when every way up ends.
func TestCommunitiesAreATree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "n")
		parents := map[string]string{}
		text := "version = \"1\"\n"
		for i := range n {
			id, parent := fmt.Sprint("c", i), ""
			if p := rapid.IntRange(-1, n-1).Draw(t, "parent"); p >= 0 {
				parent = fmt.Sprint("c", p)
			}
			parents[id] = parent
			text += fmt.Sprintf("[[community]]\nid = %q\nparent = %q\n", id, parent)
		}
		ends := true
		for id := range parents {
			for range n + 1 {
				id = parents[id]
			}
			ends = ends && id == ""
		}
		_, err := parsePolicy("p.toml", []byte(text))
		require.Equal(t, ends, err == nil, "%v", err)
	})
}

func TestTheBuiltInPolicyIsReadable(t *testing.T) {
	version, err := CheckPolicy("policy.toml", BuiltInPolicy())
	require.NoError(t, err)
	require.Equal(t, builtIn().version, version)
	require.Empty(t, builtIn().signer)
	require.Equal(t, policyText, builtIn().text)
	require.Equal(t, map[tlp.Label]time.Duration{tlp.Clear: 720 * time.Hour, tlp.Green: 168 * time.Hour}, builtIn().backlog)
	require.False(t, builtIn().largeScale)
}

// holders is a directory with one member of each of the roles.
func holders(roles ...pb.Role) *directory {
	d := newDirectory()
	d.port = "testport"
	for _, r := range roles {
		id := strings.ReplaceAll(wordFor(r), "_", "-")
		d.members[id] = &pb.Member{Id: id, Role: r, State: pb.MemberState_MEMBER_STATE_INVITED}
	}
	return d
}

func TestARoleThatNobodyHoldsIsFoundAtItsLine(t *testing.T) {
	ministry := pb.Role_ROLE_MINISTRY
	parse := func(text string) *policy {
		p, err := parsePolicy("p.toml", []byte("version = \"1\"\n"+text))
		require.NoError(t, err)
		return p.at(tableDay)
	}
	vacant := func(p *policy, d *directory) []string {
		err := p.vacant(d)
		if err == nil {
			return nil
		}
		wrong, ok := errors.AsType[*PolicyError](err)
		require.True(t, ok)
		var got []string
		for _, f := range wrong.Faults {
			require.NotEmpty(t, f.Japanese)
			got = append(got, fmt.Sprintf("%s:%d %s", wrong.Name, f.Line, f.Reason))
		}
		return got
	}
	nobody := holders()
	require.Equal(t, []string{"p.toml:3 ROLE_VACANT"}, vacant(parse(goodRoute), nobody))
	require.Contains(t, parse(goodRoute).vacant(nobody).Error(), "minato hub invite --role ministry")
	require.Empty(t, vacant(parse(goodRoute), holders(ministry)))
	require.Equal(t, []string{"p.toml:3 ROLE_VACANT"}, vacant(parse(goodDuty), nobody))
	require.Empty(t, vacant(parse(goodDuty), holders(ministry)))

	gone := holders(ministry)
	gone.members["ministry"] = proto.CloneOf(gone.members["ministry"])
	gone.members["ministry"].State = pb.MemberState_MEMBER_STATE_REVOKED
	require.NotEmpty(t, vacant(parse(goodRoute), gone), "a revoked member holds nothing")

	for name, text := range map[string]string{
		"outside":            strings.Replace(goodRoute, "act", "outside = true\nact", 1),
		"off":                strings.Replace(goodRoute, "act", "off = true\nact", 1),
		"in large-scale":     strings.Replace(goodRoute, "act", "large_scale = true\nact", 1),
		"not yet":            strings.Replace(goodRoute, "act", "start = 2099-01-01\nact", 1),
		"no more":            strings.Replace(goodRoute, "act", "end = 2020-01-01\nact", 1),
		"a prompt":           strings.Replace(goodRoute, `"auto"`, `"prompt"`, 1),
		"own organisation":   strings.Replace(goodRoute, `"ministry"`, `"own_organisation"`, 1),
		"a duty outside":     strings.Replace(goodDuty, "law", "outside = true\nlaw", 1),
		"a duty not yet due": strings.Replace(goodDuty, "law", "start = 2099-01-01\nlaw", 1),
	} {
		require.Empty(t, vacant(parse(text), nobody), name)
	}
	require.Equal(t, []string{"p.toml:2 COMMUNITY_IS_PORT"}, vacant(parse("[[community]]\nid = \"testport\""), nobody))

	all := holders(pb.Role_ROLE_OPERATOR, pb.Role_ROLE_PORT_AUTHORITY, pb.Role_ROLE_REGIONAL_TRANSPORT, ministry, pb.Role_ROLE_SECRETARIAT)
	require.Empty(t, vacant(builtIn().at(tableDay), all), "what the built-in policy needs of a port")
	delete(all.members, "secretariat")
	require.Len(t, vacant(builtIn().at(tableDay), all), 2, "R8 and R13")
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(policyText)
	f.Add([]byte("version = \"1\"\n" + goodRoute + goodDuty))
	f.Add([]byte("version='1'\nroute=[{id='x'},\n{id='y'}]\nbacklog={amber='3d'}\nflows.'a.b'='peer'"))
	f.Add([]byte("version = \"1\"\n[[community]]\nid = \"a\"\nparent = \"b\"\n[[community]]\nid = \"b\"\nparent = \"a\"\nstart = 2026-10-01"))
	f.Add([]byte("[route.x]\n[[route]]\n[route.y]\nz = [[1],[{a=1}]]\n\"\" = 1\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parsePolicy("p.toml", text)
		if err != nil {
			wrong, ok := errors.AsType[*PolicyError](err)
			require.True(t, ok)
			require.NotEmpty(t, wrong.Faults)
			for _, f := range wrong.Faults {
				require.NotEmpty(t, f.Reason)
				require.GreaterOrEqual(t, f.Line, 1)
				require.LessOrEqual(t, f.Line, strings.Count(string(text), "\n")+1)
			}
			return
		}
		require.NotEmpty(t, p.version)
		for _, r := range p.routes {
			require.NotEmpty(t, r.sentence)
			require.NotEmpty(t, r.id)
			require.False(t, r.obligation == byLaw && r.identity == anonymised)
			require.Equal(t, r.act == task, r.by != 0)
		}
		for _, d := range p.duties {
			require.NotEmpty(t, d.to)
			require.NotEmpty(t, d.designation)
		}
		for label, span := range p.backlog {
			require.True(t, label == tlp.Clear || label == tlp.Green)
			require.LessOrEqual(t, span, maxBacklog)
			require.GreaterOrEqual(t, span, time.Duration(0))
		}
		for _, c := range p.at(tableDay).communities {
			require.LessOrEqual(t, len(p.at(tableDay).above(c.id)), len(p.communities))
		}
		again, err := parsePolicy("p.toml", p.text)
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
