package hub

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"google.golang.org/protobuf/reflect/protoreflect"

	"minato.example/internal/ca"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// Bounds of a policy file.
const (
	maxPolicy        = 256 << 10 // bytes
	maxPolicyRows    = 500       // routes, duties and communities together
	maxPolicyVersion = 64        // characters
	maxPolicyText    = 2000      // bytes of a text in a row
	maxBacklog       = 365 * 24 * time.Hour
)

//go:embed policy.toml
var policyText []byte

// builtIn is the policy that holds until a port sets its own.
var builtIn = sync.OnceValue(func() *policy {
	p, err := parsePolicy("policy.toml", policyText)
	if err != nil {
		panic(err) // cannot be: it is part of the program, and a test reads it
	}
	return p
})

// BuiltInPolicy is the policy file that holds until a port sets its own, to
// start from.
func BuiltInPolicy() []byte { return slices.Clone(policyText) }

// CheckPolicy reads a policy file as SetPolicy does and tells what is wrong
// with it in itself: a *PolicyError. Whether somebody at the port holds the
// roles that it names is for the hub to say.
func CheckPolicy(name string, text []byte) (version string, err error) {
	p, err := parsePolicy(name, text)
	if err != nil {
		return "", err
	}
	return p.version, nil
}

// PolicyError is a policy file that cannot be used, with everything that was
// found wrong, by line.
type PolicyError struct {
	Name   string // of the file
	Faults []PolicyFault
}

// PolicyFault is one mistake: where it is, what it is, and what to do.
type PolicyFault struct {
	Line              int
	Reason            string // machine-readable, such as DATES_OVERLAP
	Japanese, English string
}

func (e *PolicyError) Error() string {
	return e.say("policy cannot be used. Mend this:", func(f PolicyFault) string { return f.English })
}

// Japanese is the message for people.
func (e *PolicyError) Japanese() string {
	return e.say("方針ファイルを使えません。次の箇所を直してください:", func(f PolicyFault) string { return f.Japanese })
}

func (e *PolicyError) say(head string, text func(PolicyFault) string) string {
	lines := []string{head}
	for _, f := range e.Faults {
		lines = append(lines, fmt.Sprintf("%s:%d: %s", e.Name, f.Line, text(f)))
	}
	return strings.Join(lines, "\n")
}

// The file as it is written. Values that are words or dates are read as they
// stand, so that a mistake in one is told together with all others.
type (
	policyFile struct {
		Version    string            `toml:"version"`
		LargeScale bool              `toml:"large_scale"`
		Issuers    []string          `toml:"issuers"`
		Backlog    map[string]string `toml:"backlog"`
		Flows      map[string]string `toml:"flows"`
		Community  []communityRow    `toml:"community"`
		Route      []routeRow        `toml:"route"`
		Duty       []dutyRow         `toml:"duty"`
	}
	communityRow struct {
		ID     string `toml:"id"`
		Name   string `toml:"name"`
		Parent string `toml:"parent"`
		Start  any    `toml:"start"`
		End    any    `toml:"end"`
	}
	routeRow struct {
		ID         string   `toml:"id"`
		When       []string `toml:"when"`
		Any        []string `toml:"any"`
		Unless     []string `toml:"unless"`
		From       []string `toml:"from"`
		By         string   `toml:"by"`
		To         []string `toml:"to"`
		Near       bool     `toml:"near"`
		Identity   string   `toml:"identity"`
		Obligation string   `toml:"obligation"`
		Act        string   `toml:"act"`
		Form       string   `toml:"form"`
		Source     string   `toml:"source"`
		Outside    bool     `toml:"outside"`
		LargeScale bool     `toml:"large_scale"`
		Off        bool     `toml:"off"`
		Start      any      `toml:"start"`
		End        any      `toml:"end"`
	}
	dutyRow struct {
		ID          string   `toml:"id"`
		Law         string   `toml:"law"`
		Article     string   `toml:"article"`
		Designation string   `toml:"designation"`
		System      bool     `toml:"system"`
		To          []string `toml:"to"`
		Form        string   `toml:"form"`
		Preliminary string   `toml:"preliminary"`
		Detailed    string   `toml:"detailed"`
		Source      string   `toml:"source"`
		Outside     bool     `toml:"outside"`
		Start       any      `toml:"start"`
		End         any      `toml:"end"`
	}
)

// ownOrganisation stands in a row's `to` for the organisation of the source.
const ownOrganisation = "own_organisation"

// parsePolicy reads a policy file. Its error is a *PolicyError with every
// mistake, each with its line and a remedy.
func parsePolicy(name string, text []byte) (*policy, error) {
	r := &policyReader{name: name, lines: map[string]int{}}
	if len(text) > maxPolicy {
		r.fault(1, "FILE_TOO_LARGE",
			fmt.Sprintf("ファイルが %d バイトあり、上限 %d バイトを超えています。行や注釈を減らしてください。", len(text), maxPolicy),
			fmt.Sprintf("the file has %d bytes, more than the limit of %d. Leave rows or comments out.", len(text), maxPolicy))
		return nil, r.err()
	}
	var f policyFile
	if !r.decode(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &f) {
		return nil, r.err()
	}
	p := r.policy(&f)
	if err := r.err(); err != nil {
		return nil, err
	}
	p.name, p.text = name, slices.Clone(text)
	return p, nil
}

// policyReader collects mistakes while it reads.
type policyReader struct {
	name   string
	lines  map[string]int // by path, such as route[2].to[0]
	faults []PolicyFault
}

func (r *policyReader) fault(line int, reason, ja, en string) {
	r.faults = append(r.faults, PolicyFault{Line: line, Reason: reason, Japanese: ja, English: en})
}

func (r *policyReader) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b PolicyFault) int { return cmp.Compare(a.Line, b.Line) })
	return &PolicyError{Name: r.name, Faults: r.faults}
}

// line is where a path stands, or the nearest thing that holds it: a key that
// is missing is told at the head of its row.
func (r *policyReader) line(path string) int {
	for path != "" {
		if n, ok := r.lines[path]; ok {
			return n
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 1
}

// decode reads the TOML and reports whether there is anything to go on with.
func (r *policyReader) decode(text []byte, into *policyFile) bool {
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(into)
	strict, unknown := errors.AsType[*toml.StrictMissingError](err)
	if wrong, ok := errors.AsType[*toml.DecodeError](err); ok && !unknown {
		line, _ := wrong.Position()
		key := ""
		if k := wrong.Key(); len(k) > 0 {
			key = k[len(k)-1]
		}
		form, known := written[key]
		kind := strings.HasPrefix(wrong.Error(), "toml: cannot ") // decode an integer into a string, and the like
		switch {
		case kind && known:
			r.fault(line, "VALUE_INVALID",
				fmt.Sprintf("%s に書ける種類の値ではありません。次のように書いてください: %s = %s", key, key, form),
				fmt.Sprintf("%s cannot have a value of this kind. Write it like this: %s = %s", key, key, form))
		case kind:
			r.fault(line, "VALUE_INVALID",
				"ここに書ける種類の値ではありません。文字は引用符で囲み、行は [[route]], [[duty]], [[community]] で始めてください。",
				"a value of this kind cannot stand here. Put text into quotes, begin rows with [[route]], [[duty]] or [[community]].")
		default:
			r.fault(line, "TOML_INVALID",
				fmt.Sprintf("TOML として読めません (%s)。この行の書き方を直してください。", wrong.Error()),
				fmt.Sprintf("this is not TOML (%s). Mend how the line is written.", wrong.Error()))
		}
		return false
	}
	if err != nil && !unknown {
		r.fault(1, "TOML_INVALID", fmt.Sprintf("TOML として読めません (%v)。", err), fmt.Sprintf("this is not TOML (%v).", err))
		return false
	}
	r.locate(text)
	if unknown && len(r.faults) == 0 {
		line, _ := strict.Errors[0].Position()
		r.unknownKey(line, strings.Join(strict.Errors[0].Key(), "."), nil)
	}
	return !slices.ContainsFunc(r.faults, func(f PolicyFault) bool { return f.Reason == "TABLE_SINGLE" })
}

// written is how the value of each key is written.
var written = func() map[string]string {
	form := map[string]string{}
	for _, row := range []any{policyFile{}, communityRow{}, routeRow{}, dutyRow{}} {
		for f := range reflect.TypeOf(row).Fields() {
			switch f.Type.Kind() {
			case reflect.Bool:
				form[f.Tag.Get("toml")] = "true"
			case reflect.String:
				form[f.Tag.Get("toml")] = `"…"`
			case reflect.Interface:
				form[f.Tag.Get("toml")] = "2026-10-01"
			case reflect.Slice:
				if f.Type.Elem().Kind() == reflect.String {
					form[f.Tag.Get("toml")] = `["…", "…"]`
				}
			}
		}
	}
	return form
}()

// keys are those of each kind of table. Names are compared as they stand: the
// decoder would also take them in capitals.
var keys = map[string][]string{
	"": tagsOf(policyFile{}), "community": tagsOf(communityRow{}), "route": tagsOf(routeRow{}), "duty": tagsOf(dutyRow{}),
}

func tagsOf(row any) (tags []string) {
	for f := range reflect.TypeOf(row).Fields() {
		tags = append(tags, f.Tag.Get("toml"))
	}
	return tags
}

func (r *policyReader) unknownKey(line int, key string, known []string) {
	ja, en := "綴りを確かめるか、この行を除いてください。", "Check the spelling or take the line out."
	if len(known) > 0 {
		ja += "使えるキー: " + strings.Join(known, ", ")
		en += " Keys that may stand here: " + strings.Join(known, ", ")
	}
	r.fault(line, "UNKNOWN_KEY", fmt.Sprintf("キー %s はありません。%s", short(key), ja), fmt.Sprintf("there is no key %s. %s", short(key), en))
}

// locate notes the line of every table, key and element, and the keys that
// nobody knows. The text has been decoded without an error of its syntax.
func (r *policyReader) locate(text []byte) {
	var p unstable.Parser
	p.Reset(text)
	line, seen := lineCounter(text), map[string]int{}
	kind, prefix := "", "" // of the table that the keys stand in
	var value func(kind, path string, n *unstable.Node)
	pair := func(kind, prefix string, n *unstable.Node) {
		for it := n.Key(); it.Next(); {
			k := it.Node()
			name, at := string(k.Data), line(k.Raw)
			path := name
			if prefix != "" {
				path = prefix + "." + name
			}
			known, open := keys[kind]
			if open && !slices.Contains(known, name) || kind == "value" || !open && !wordKey.MatchString(name) {
				r.unknownKey(at, path, known)
				return
			}
			if _, ok := r.lines[path]; !ok {
				r.lines[path] = at
			}
			if kind == "" && isRow(name) && n.Value().Kind != unstable.Array {
				r.notARow(at, name)
				return
			}
			prefix = path
			switch {
			case kind != "": // below it are no tables
				kind = "value"
			case name == "flows" || name == "backlog":
				kind = "words"
			default:
				kind = name
			}
		}
		value(kind, prefix, n.Value())
	}
	value = func(kind, path string, n *unstable.Node) {
		switch n.Kind {
		case unstable.InlineTable:
			for it := n.Children(); it.Next(); {
				pair(kind, path, it.Node())
			}
		case unstable.Array:
			i := 0
			for it := n.Children(); it.Next(); i++ {
				element := fmt.Sprintf("%s[%d]", path, i)
				if it.Node().Raw.Length > 0 {
					r.lines[element] = line(it.Node().Raw)
				}
				value(kind, element, it.Node())
			}
		}
	}
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.KeyValue:
			pair(kind, prefix, e)
		case unstable.Table, unstable.ArrayTable:
			var names []string
			at := 1
			for it := e.Key(); it.Next(); {
				names, at = append(names, string(it.Node().Data)), line(it.Node().Raw)
			}
			kind, prefix = names[0], names[0]
			switch {
			case len(names) > 1 || !slices.Contains(keys[""], kind):
				r.unknownKey(at, strings.Join(names, "."), keys[""])
				kind, prefix = "ignored", strings.Join(names, ".")
			case e.Kind == unstable.Table && isRow(kind):
				r.notARow(at, kind)
			case e.Kind == unstable.ArrayTable:
				prefix = fmt.Sprintf("%s[%d]", kind, seen[kind])
				seen[kind]++
			case kind == "flows" || kind == "backlog":
				kind = "words"
			}
			r.lines[prefix] = at
		}
	}
}

// isRow reports whether tables of this name are rows.
func isRow(name string) bool { return name == "community" || name == "route" || name == "duty" }

func (r *policyReader) notARow(line int, name string) {
	r.fault(line, "TABLE_SINGLE",
		fmt.Sprintf("%s は行の並びです。一行ずつ [[%s]] で始めてください。", name, name), fmt.Sprintf("%s is a list of rows. Begin each with [[%s]].", name, name))
}

// wordKey is a key whose name is a word of the policy, such as a role.
var wordKey = regexp.MustCompile(`^[A-Za-z0-9_:+-]{1,64}$`)

// lineCounter tells the line of a range. It counts on from where it was asked
// last: the parser walks the text once.
func lineCounter(text []byte) func(unstable.Range) int {
	offset, n := 0, 1
	return func(at unstable.Range) int {
		to := int(at.Offset)
		if to < offset {
			offset, n = 0, 1
		}
		n += bytes.Count(text[offset:to], []byte("\n"))
		offset = to
		return n
	}
}

// policy makes the policy of what was decoded and notes all that is wrong.
func (r *policyReader) policy(f *policyFile) *policy {
	p := &policy{version: f.Version, largeScale: f.LargeScale,
		backlog: map[tlp.Label]time.Duration{}, flows: map[pb.Role]pb.Flow{}, issuers: map[pb.Role]bool{}}
	r.version(f.Version)
	if n := len(f.Route) + len(f.Duty) + len(f.Community); n > maxPolicyRows {
		r.fault(r.line("version"), "TOO_MANY_ROWS",
			fmt.Sprintf("route, duty, community が合わせて %d 行あり、上限 %d 行を超えています。使わない行を除いてください。", n, maxPolicyRows),
			fmt.Sprintf("route, duty and community have %d rows together, more than the limit of %d. Take out those not in use.", n, maxPolicyRows))
		return p
	}
	for _, role := range words[pb.Role](r, "issuers", f.Issuers) {
		p.issuers[role] = true
	}
	for _, key := range slices.Sorted(maps.Keys(f.Flows)) {
		role, ok := word[pb.Role](r, "flows."+key, key)
		flow, fine := word[pb.Flow](r, "flows."+key, f.Flows[key])
		if ok && fine {
			p.flows[role] = flow
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.Backlog)) {
		r.backlog(p, key, f.Backlog[key])
	}
	for i := range f.Community {
		p.communities = append(p.communities, r.community(fmt.Sprintf("community[%d]", i), &f.Community[i]))
	}
	for i := range f.Route {
		p.routes = append(p.routes, r.route(fmt.Sprintf("route[%d]", i), &f.Route[i]))
	}
	for i := range f.Duty {
		p.duties = append(p.duties, r.duty(fmt.Sprintf("duty[%d]", i), &f.Duty[i]))
	}
	r.overlaps(p)
	r.tree(p.communities)
	r.discreet(p)
	return p
}

// peers are the roles to which no row and no flow gives a victim's name and
// damage: only the source's own consent does (guideline, 別紙: 共有).
var peers = []pb.Role{pb.Role_ROLE_OPERATOR, pb.Role_ROLE_PORT_COMPANY, pb.Role_ROLE_ISAC, pb.Role_ROLE_COUNCIL, pb.Role_ROLE_USERS}

// discreet refuses what would show peers a victim without its consent.
func (r *policyReader) discreet(p *policy) {
	for _, role := range peers {
		switch f := p.flows[role]; {
		case f == pb.Flow_FLOW_AUTHORITY, f == pb.Flow_FLOW_EXPERT_NDA, f == pb.Flow_FLOW_PUBLIC,
			f == pb.Flow_FLOW_STATUS && role != pb.Role_ROLE_USERS:
			r.fault(r.line("flows."+wordFor(role)), "PEERS_SEE_VICTIM",
				fmt.Sprintf("%s にこの流れを与えると、被害組織の名や被害が同意なしに同業へ渡ります。peer にしてください。", wordFor(role)),
				fmt.Sprintf("this flow would show %s the name and damage of a victim without its consent. Write peer.", wordFor(role)))
		}
	}
	for i := range p.routes {
		row := &p.routes[i]
		// What an issuer warns of is nobody's damage.
		warning := len(row.from) > 0 && slices.Contains(row.when, pb.Fact_FACT_NOTICE) &&
			!slices.ContainsFunc(row.from, func(role pb.Role) bool { return !p.issuers[role] })
		if row.identity == named && (row.act == pb.Act_ACT_AUTO || row.act == pb.Act_ACT_PROMPT) && !warning &&
			slices.ContainsFunc(row.to, func(role pb.Role) bool { return slices.Contains(peers, role) }) {
			r.fault(r.line(fmt.Sprintf("route[%d].identity", i)), "PEERS_SEE_VICTIM",
				fmt.Sprintf("%s は全文を名前入りで同業に渡します。identity を projected にするか、issuers の役割が出す注意喚起 (when に notice) だけに限ってください。", row.id),
				fmt.Sprintf("%s gives peers the whole report by name. Write identity = \"projected\", or keep it to notices (when) of roles among the issuers (from).", row.id))
		}
	}
}

func (r *policyReader) version(v string) {
	line := r.line("version")
	switch {
	case v == "":
		r.fault(line, "VERSION_MISSING",
			`版がありません。先頭に version = "2026-11-01" のように書いてください。`, `the version is missing. Begin with version = "2026-11-01" or the like.`)
	case utf8.RuneCountInString(v) > maxPolicyVersion || strings.ContainsFunc(v, unprintable):
		r.fault(line, "VERSION_INVALID",
			fmt.Sprintf("version は %d 文字以内の1行にしてください。", maxPolicyVersion), fmt.Sprintf("version must be one line of at most %d characters.", maxPolicyVersion))
	}
}

func unprintable(c rune) bool { return !strconv.IsGraphic(c) }

func (r *policyReader) backlog(p *policy, key, text string) {
	path := "backlog." + key
	labels := map[string]tlp.Label{"clear": tlp.Clear, "green": tlp.Green}
	label, ok := labels[key]
	if !ok {
		r.fault(r.line(path), "BACKLOG_LABEL",
			fmt.Sprintf("backlog に %s は書けません。後から入った会員がさかのぼって読めるのは clear と green だけです。この行を除いてください。", short(key)),
			fmt.Sprintf("backlog cannot have %s. A member that joins later may read back clear and green only. Take the line out.", short(key)))
		return
	}
	span, ok := r.span(path, text)
	if ok && span > maxBacklog {
		r.fault(r.line(path), "BACKLOG_TOO_LONG",
			fmt.Sprintf("backlog の %s が 365 日を超えています。365d 以内にしてください。", key), fmt.Sprintf("the backlog of %s is over 365 days. Write 365d or less.", key))
		return
	}
	if ok {
		p.backlog[label] = span
	}
}

// span reads a time such as 30d or 720h.
func (r *policyReader) span(path, text string) (time.Duration, bool) {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int64
		n, err = strconv.ParseInt(days, 10, 64)
		if err == nil && (n < -36500 || n > 36500) {
			err = strconv.ErrRange
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 {
		r.fault(r.line(path), "TIME_SPAN_INVALID",
			fmt.Sprintf("%q は期間として読めません。0 以上を 30d (日) または 720h (時間) のように書いてください。", short(text)),
			fmt.Sprintf("%q is not a span of time. Write 0 or more, as 30d (days) or 720h (hours).", short(text)))
		return 0, false
	}
	return d, true
}

// zone is that of dates without one: the laws and agreements of a Japanese port
// begin at midnight there.
var zone = time.FixedZone("JST", 9*60*60)

// period reads start and end of a row.
func (r *policyReader) period(path string, start, end any) (p period) {
	date := func(key string, v any) (t time.Time) {
		switch v := v.(type) {
		case nil:
		case time.Time:
			t = v
		case toml.LocalDate:
			t = v.AsTime(zone)
		case toml.LocalDateTime:
			t = v.AsTime(zone)
		default:
			r.fault(r.line(path+"."+key), "DATE_INVALID",
				fmt.Sprintf("%s は日付ではありません。引用符なしで 2026-10-01 のように書いてください。", key),
				fmt.Sprintf("%s is not a date. Write it without quotes, such as 2026-10-01.", key))
		}
		return t
	}
	p = period{from: date("start", start), to: date("end", end)}
	if !p.from.IsZero() && !p.to.IsZero() && !p.from.Before(p.to) {
		r.fault(r.line(path+".end"), "DATES_REVERSED",
			"end が start 以前です。end は最後の日の翌日にしてください (end の日からは効力がありません)。",
			"end is not after start. Write the day after the last one (from end on the row has no effect).")
		p.to = time.Time{}
	}
	return p
}

func (r *policyReader) community(path string, c *communityRow) community {
	r.id(path, c.ID, ca.ValidID)
	if c.Parent != "" && c.Parent == c.ID {
		r.fault(r.line(path+".parent"), "COMMUNITY_CYCLE",
			fmt.Sprintf("コミュニティ %s が自分自身を上位としています。parent を直すか除いてください。", short(c.ID)),
			fmt.Sprintf("community %s is its own parent. Change parent or take it out.", short(c.ID)))
	}
	r.text(path+".name", c.Name)
	return community{period: r.period(path, c.Start, c.End), line: r.line(path), id: c.ID, name: c.Name, parent: c.Parent}
}

func (r *policyReader) route(path string, f *routeRow) route {
	row := route{
		period: r.period(path, f.Start, f.End), line: r.line(path), id: f.ID, near: f.Near,
		identity: identity(f.Identity), form: f.Form, sentence: f.Source, outside: f.Outside, large: f.LargeScale, off: f.Off,
	}
	r.id(path, f.ID, validRule)
	r.text(path+".source", f.Source)
	r.text(path+".form", f.Form)
	row.when, row.anyOf, row.unless = words[pb.Fact](r, path+".when", f.When), words[pb.Fact](r, path+".any", f.Any), words[pb.Fact](r, path+".unless", f.Unless)
	row.from = words[pb.Role](r, path+".from", f.From)
	for i, fact := range f.Unless {
		if slices.Contains(f.When, fact) {
			r.fault(r.line(fmt.Sprintf("%s.unless[%d]", path, i)), "NEVER_FIRES",
				fmt.Sprintf("%s が when と unless の両方にあり、この行は決して働きません。どちらかを除いてください。", short(fact)),
				fmt.Sprintf("%s stands in both when and unless, so the row never fires. Take one out.", short(fact)))
		}
	}
	switch {
	case len(f.To) == 0:
		r.fault(r.line(path), "TO_MISSING",
			fmt.Sprintf(`%s に宛先がありません。to = ["ministry"] のように役割を書くか、自組織内なら to = ["%s"] としてください。`, short(f.ID), ownOrganisation),
			fmt.Sprintf(`%s does not say to whom. Write roles, to = ["ministry"], or to = ["%s"] for the source's own organisation.`, short(f.ID), ownOrganisation))
	case len(f.To) == 1 && f.To[0] == ownOrganisation:
	default:
		row.to = words[pb.Role](r, path+".to", f.To, ownOrganisation)
	}
	if f.Source == "" {
		r.sourceMissing(path, f.ID)
	}
	row.act, _ = word[pb.Act](r, path+".act", f.Act)
	row.obligation, _ = word[pb.Obligation](r, path+".obligation", f.Obligation)
	if f.By != "" {
		row.by, _ = word[pb.Role](r, path+".by", f.By)
	}
	if !slices.Contains([]identity{named, projected, anonymised}, row.identity) {
		r.unknownWord(path+".identity", f.Identity, []string{string(named), string(projected), string(anonymised)})
	}
	r.together(path, f, &row)
	return row
}

// together checks what one key of a row asks of another.
func (r *policyReader) together(path string, f *routeRow, row *route) {
	if row.act == pb.Act_ACT_TASK && f.By == "" {
		r.fault(r.line(path+".act"), "BY_MISSING",
			fmt.Sprintf(`%s は act = "task" ですが、誰が引き継ぐかがありません。by = "port_authority" のように受け手の役割を書いてください。`, short(f.ID)),
			fmt.Sprintf(`%s has act = "task" and does not say who passes it on. Write the role of that recipient, by = "port_authority".`, short(f.ID)))
	}
	if row.act != pb.Act_ACT_TASK && row.act != 0 && f.By != "" {
		r.fault(r.line(path+".by"), "BY_UNUSED",
			`by は act = "task" の行だけに書けます。act を task にするか、by を除いてください。`, `by may stand only in a row with act = "task". Change act or take by out.`)
	}
	if row.act == pb.Act_ACT_EXPORT && f.Form == "" && !f.Outside {
		r.fault(r.line(path+".act"), "FORM_MISSING",
			fmt.Sprintf(`%s は act = "export" ですが、様式も宛先もシステムの外とも書かれていません。form = "様式の ID" か outside = true を書いてください。`, short(f.ID)),
			fmt.Sprintf(`%s has act = "export" with neither a form nor an addressee outside. Write form = "ID" or outside = true.`, short(f.ID)))
	}
	if row.act != pb.Act_ACT_EXPORT && row.act != 0 && f.Form != "" {
		r.fault(r.line(path+".form"), "FORM_UNUSED",
			`form は act = "export" の行だけに書けます。act を export にするか、form を除いてください。`, `form may stand only in a row with act = "export". Change act or take form out.`)
	}
	if row.identity != anonymised {
		return
	}
	if row.obligation == pb.Obligation_OBLIGATION_LAW {
		r.fault(r.line(path+".identity"), "LAW_ANONYMISED",
			`法令による報告 (obligation = "law") は匿名にできません。identity = "named" にしてください。`, `what the law demands (obligation = "law") cannot be anonymous. Write identity = "named".`)
	}
	if len(row.to) != 1 || row.to[0] != pb.Role_ROLE_SECRETARIAT {
		r.fault(r.line(path+".identity"), "ANONYMISED_ELSEWHERE",
			`匿名化はセプター事務局だけが行います。to = ["secretariat"] にするか、identity を projected にしてください。`,
			`only the secretariat anonymises. Write to = ["secretariat"], or identity = "projected".`)
	}
}

func (r *policyReader) duty(path string, f *dutyRow) duty {
	row := duty{
		period: r.period(path, f.Start, f.End), line: r.line(path), id: f.ID, law: f.Law, article: f.Article,
		designation: f.Designation, system: f.System, form: f.Form, sentence: f.Source, outside: f.Outside,
	}
	r.id(path, f.ID, validRule)
	for key, text := range map[string]string{"law": f.Law, "article": f.Article, "form": f.Form, "source": f.Source} {
		r.text(path+"."+key, text)
	}
	if f.Law == "" {
		r.fault(r.line(path), "LAW_MISSING",
			fmt.Sprintf(`%s に法令名がありません。law = "…" を書いてください。`, short(f.ID)), fmt.Sprintf(`%s does not name the law. Write law = "...".`, short(f.ID)))
	}
	if !ca.ValidID(f.Designation) {
		r.fault(r.line(path+".designation"), "DESIGNATION_INVALID",
			fmt.Sprintf(`%s に指定がありません。どの指定を受けた組織の義務かを designation = "special-infrastructure-operator" のように書いてください (a-z, 0-9, ハイフン)。`, short(f.ID)),
			fmt.Sprintf(`%s does not say whom the law has designated. Write designation = "special-infrastructure-operator" or the like (a-z, 0-9, hyphen).`, short(f.ID)))
	}
	if len(f.To) == 0 {
		r.fault(r.line(path), "ADDRESSEE_MISSING",
			fmt.Sprintf(`%s に報告先がありません。to = ["ministry"] のように役割を書いてください。`, short(f.ID)),
			fmt.Sprintf(`%s has no addressee. Write roles, to = ["ministry"].`, short(f.ID)))
	}
	row.to = words[pb.Role](r, path+".to", f.To)
	if f.Source == "" {
		r.sourceMissing(path, f.ID)
	}
	first, ok := r.deadline(path+".preliminary", f.Preliminary)
	second, fine := r.deadline(path+".detailed", f.Detailed)
	if ok && fine && first > second {
		r.fault(r.line(path+".detailed"), "DEADLINES_REVERSED",
			"詳報の期限 (detailed) が速報の期限 (preliminary) より前です。日数を確かめてください。",
			"the detailed report is due before the preliminary one. Check the two spans.")
	}
	row.preliminary, row.detailed = first, second
	return row
}

// deadline reads a span that must be more than nothing where it is written.
func (r *policyReader) deadline(path, text string) (d time.Duration, ok bool) {
	if text == "" {
		return 0, false
	}
	if d, ok = r.span(path, text); ok && d == 0 {
		r.fault(r.line(path), "TIME_SPAN_INVALID",
			"期限が 0 です。法令に期限がなければ、この行を除いてください。", "the deadline is 0. Take the line out where the law sets none.")
	}
	return d, ok
}

func (r *policyReader) sourceMissing(path, id string) {
	r.fault(r.line(path), "SOURCE_MISSING",
		fmt.Sprintf(`%s に根拠がありません。source = "「…」港湾分野ガイドライン(第2版) 3.2" のように、根拠とする文とその所在を書いてください。`, short(id)),
		fmt.Sprintf(`%s does not say what it rests on. Write the sentence and where it stands: source = "...".`, short(id)))
}

// validRule is an id that a plan can name and that is none of its own.
func validRule(id string) bool {
	return ruleID.MatchString(id) && !slices.Contains([]string{"ADDRESSED", "COMMUNITY", "EVERY_MEMBER"}, id)
}

var ruleID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$`)

func (r *policyReader) id(path, id string, valid func(string) bool) {
	switch {
	case id == "":
		r.fault(r.line(path), "ID_MISSING", `id がありません。id = "…" を書いてください。`, `the id is missing. Write id = "...".`)
	case !valid(id):
		r.fault(r.line(path+".id"), "ID_INVALID",
			fmt.Sprintf("ID %q は使えません。コミュニティは a-z, 0-9, ハイフンで63文字まで、ほかは英数字と . _ - で40文字までです。ADDRESSED, COMMUNITY, EVERY_MEMBER は使えません。", short(id)),
			fmt.Sprintf("id %q cannot be used. A community has up to 63 of a-z, 0-9 and hyphen, any other row up to 40 letters, digits and . _ -; ADDRESSED, COMMUNITY and EVERY_MEMBER are taken.", short(id)))
	}
}

func (r *policyReader) text(path, s string) {
	if len(s) > maxPolicyText || strings.ContainsFunc(s, unprintable) {
		r.fault(r.line(path), "TEXT_INVALID",
			fmt.Sprintf("文は %d バイト以内の1行にしてください (改行や制御文字は使えません)。", maxPolicyText),
			fmt.Sprintf("a text must be one line of at most %d bytes, without line breaks and control characters.", maxPolicyText))
	}
}

func (r *policyReader) twice(path, s string) {
	r.fault(r.line(path), "WORD_TWICE", fmt.Sprintf("%s が重複しています。一つ除いてください。", short(s)), fmt.Sprintf("%s stands here twice. Take one out.", short(s)))
}

// short is what a message repeats of the file.
func short(s string) string {
	s = strings.ToValidUTF8(s, "�")
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:60]) + "…"
	}
	return strings.Map(func(c rune) rune {
		if unprintable(c) {
			return '�'
		}
		return c
	}, s)
}

type wordOf interface {
	~int32
	protoreflect.Enum
}

// known are the words of an enum: ROLE_PORT_AUTHORITY is written port_authority.
func known[E wordOf]() (all []string, values map[string]E) {
	var zero E
	values = map[string]E{}
	descriptors := zero.Descriptor().Values()
	prefix := strings.TrimSuffix(string(descriptors.ByNumber(0).Name()), "UNSPECIFIED")
	for i := range descriptors.Len() {
		v := descriptors.Get(i)
		if v.Number() == 0 || flowsOfTheSystem[protoreflect.Enum(E(v.Number()))] {
			continue
		}
		w := strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix))
		all, values[w] = append(all, w), E(v.Number())
	}
	return all, values
}

// flowsOfTheSystem are not for a policy to give: a non-disclosure agreement is
// a fact of the member, anonymity a choice of the source.
var flowsOfTheSystem = map[protoreflect.Enum]bool{pb.Flow_FLOW_EXPERT_NDA: true, pb.Flow_FLOW_ANONYMOUS: true}

// word reads one word of an enum.
func word[E wordOf](r *policyReader, path, s string, also ...string) (E, bool) {
	all, values := known[E]()
	e, ok := values[s]
	if !ok {
		r.unknownWord(path, s, append(all, also...))
	}
	return e, ok
}

// words reads a list of different words. One that is wrong is left out.
func words[E wordOf](r *policyReader, path string, list []string, also ...string) (read []E) {
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if slices.Contains(also, s) {
			r.fault(r.line(at), "WORD_ALONE",
				fmt.Sprintf("%s はほかの宛先と並べられません。行を分けてください。", s), fmt.Sprintf("%s cannot stand beside others. Make two rows of it.", s))
			continue
		}
		e, ok := word[E](r, at, s, also...)
		if !ok {
			continue
		}
		if slices.Contains(read, e) {
			r.twice(at, s)
		}
		read = append(read, e)
	}
	return read
}

func (r *policyReader) unknownWord(path, s string, all []string) {
	key := path[strings.LastIndexByte(path, '.')+1:]
	if i := strings.IndexByte(key, '['); i > 0 {
		key = key[:i]
	}
	list := strings.Join(all, ", ")
	if s == "" {
		r.fault(r.line(path), "WORD_MISSING", fmt.Sprintf("%s がありません。使える語: %s", key, list), fmt.Sprintf("%s is missing. Write one of: %s", key, list))
		return
	}
	r.fault(r.line(path), "WORD_UNKNOWN",
		fmt.Sprintf("%s の %q という語はありません。使える語: %s", key, short(s), list),
		fmt.Sprintf("%s cannot be %q. Write one of: %s", key, short(s), list))
}

// overlaps finds rows of one id that are in force on the same day. Routes and
// duties share their ids: a plan names a rule by its id alone.
func (r *policyReader) overlaps(p *policy) {
	type entry struct {
		period
		line int
		id   string
	}
	var rules, communities []entry
	for _, e := range p.routes {
		rules = append(rules, entry{e.period, e.line, e.id})
	}
	for _, e := range p.duties {
		rules = append(rules, entry{e.period, e.line, e.id})
	}
	for _, e := range p.communities {
		communities = append(communities, entry{e.period, e.line, e.id})
	}
	for _, group := range [][]entry{rules, communities} {
		for i, late := range group {
			for _, early := range group[:i] {
				if late.id == "" || late.id != early.id || !late.overlaps(early.period) {
					continue
				}
				r.fault(late.line, "DATES_OVERLAP",
					fmt.Sprintf("%s は %d 行目にもあり、有効な日が重なっています。前の行に end、この行に start を書いて日を分けるか、ID を変えてください。", short(late.id), early.line),
					fmt.Sprintf("%s stands at line %d too and both are in force on some day. Give the former an end and this one a start, or change the id.", short(late.id), early.line))
				break
			}
		}
	}
}

// overlaps reports whether there is an instant at which both hold.
func (p period) overlaps(q period) bool {
	before := func(a, b period) bool { return !a.to.IsZero() && !b.from.IsZero() && !b.from.Before(a.to) }
	return !before(p, q) && !before(q, p)
}

// tree finds communities whose parent is not there, and cycles, on any day.
func (r *policyReader) tree(all []community) {
	days := []time.Time{{}}
	for _, c := range all {
		for _, t := range []time.Time{c.from, c.to} {
			if !t.IsZero() {
				days = append(days, t)
			}
		}
	}
	told := map[int]bool{} // lines
	for _, day := range days {
		parents := map[string]string{}
		for _, c := range all {
			if c.holds(day) {
				parents[c.id] = c.parent
			}
		}
		round := cycles(parents)
		for _, c := range all {
			if !c.holds(day) || c.parent == "" || c.parent == c.id || told[c.line] {
				continue
			}
			if _, ok := parents[c.parent]; !ok {
				told[c.line] = true
				r.fault(c.line, "PARENT_MISSING",
					fmt.Sprintf("コミュニティ %s の上位 %s が、%s がある間ずっとはありません。上位の行を加えるか日を合わせるか、parent を直してください (港全体の直下なら parent は書きません)。", short(c.id), short(c.parent), short(c.id)),
					fmt.Sprintf("community %s is part of %s, which is not there all the while. Add it, match the dates, or change parent (leave it out right below the port).", short(c.id), short(c.parent)))
			} else if round[c.id] {
				told[c.line] = true
				r.fault(c.line, "COMMUNITY_CYCLE",
					fmt.Sprintf("コミュニティ %s の上位をたどると %s に戻ります。どれかの parent を直すか除いてください。", short(c.id), short(c.id)),
					fmt.Sprintf("going up from community %s leads back to it. Change one parent or take it out.", short(c.id)))
			}
		}
	}
}

// cycles are those from which the way up leads back to themselves.
func cycles(parents map[string]string) map[string]bool {
	round, seen := map[string]bool{}, map[string]bool{}
	for id := range parents {
		var way []string
		for id != "" && !seen[id] {
			seen[id] = true
			way, id = append(way, id), parents[id]
		}
		if i := slices.Index(way, id); i >= 0 {
			for _, in := range way[i:] {
				round[in] = true
			}
		}
	}
	return round
}

// vacant finds what the policy promises to a role that nobody at the port
// holds: rows that the hub carries out by itself, and legal duties. The policy
// must be one that at has given. The error is a *PolicyError.
func (p *policy) vacant(d *directory) error {
	held := map[pb.Role]bool{}
	for _, m := range d.members {
		if m.GetState() != pb.MemberState_MEMBER_STATE_REVOKED {
			held[m.GetRole()] = true
		}
	}
	r := &policyReader{name: p.name}
	need := func(line int, id string, roles []pb.Role) {
		for _, role := range roles {
			if held[role] {
				continue
			}
			w := wordFor(role)
			r.fault(line, "ROLE_VACANT",
				fmt.Sprintf("%s の宛先 %s の役割を持つ会員がいません。その役割の会員を招く (minato hub invite --role %s) か、システムの外に伝えるなら outside = true と書くか、この行を除いてください。", id, w, w),
				fmt.Sprintf("nobody at the port holds the role %s that %s is for. Invite a member with it (minato hub invite --role %s), write outside = true where they are told by another way, or take the row out.", w, id, w))
		}
	}
	for i := range p.routes {
		if row := &p.routes[i]; row.act == pb.Act_ACT_AUTO && !row.outside && p.uses(row) {
			need(row.line, row.id, row.to)
		}
	}
	for i := range p.duties {
		if row := &p.duties[i]; !row.outside {
			need(row.line, row.id, row.to)
		}
	}
	for _, c := range p.communities {
		if c.id == d.port {
			r.fault(c.line, "COMMUNITY_IS_PORT",
				fmt.Sprintf("コミュニティ %s は港全体の名前です。別の ID にしてください。", c.id),
				fmt.Sprintf("community %s has the name of the whole port. Choose another id.", c.id))
		}
	}
	return r.err()
}

// wordFor is how a policy writes a role.
func wordFor(role pb.Role) string { return strings.ToLower(strings.TrimPrefix(role.String(), "ROLE_")) }
