package hub

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// The oracle says who may have what by tables, written down from the
// definitions of FIRST TLP 2.0 and the guideline. It shares no code with what
// it judges: words are looked up in rows and columns, nothing is worked out.
//
// table reads a text whose first line names the columns and whose first word in
// each line names the row.
func table(text string) map[string]map[string]string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	columns := strings.Fields(lines[0])
	rows := map[string]map[string]string{}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		if len(cells) != len(columns)+1 || rows[cells[0]] != nil {
			panic("a row has not one word a column, or stands twice: " + line)
		}
		rows[cells[0]] = map[string]string{}
		for i, c := range columns {
			rows[cells[0]][c] = cells[i+1]
		}
	}
	return rows
}

// mayRead: FIRST TLP 2.0, one line a label. What each standing gives:
//
//	yes   a copy
//	in    a copy to those inside of the named community only
//	no    none
//
// person: named in person. addressed: the organisation is among the recipients.
// routed: a rule of the guideline names it. community, child, port: the report
// is open to all whom its label covers, and the organisation is in the
// community, in one below it, or just in this port.
var mayRead = table(`
        person addressed routed community child port
CLEAR   yes    yes       yes    yes       yes   yes
GREEN   in     in        in     yes       yes   no
AMBER   yes    yes       yes    no        no    no
STRICT  yes    yes       yes    no        no    no
RED     yes    no        no     no        no    no
`)

// mayPass: what a holder that is not the source may pass on, by why the other
// should have it. chain: the holder got it as a client itself. permitted: the
// source said beforehand that it may (FIRST: sharing wider needs the explicit
// permission of the source).
var mayPassOn = table(`
        client chain permitted task community child port
CLEAR   yes    yes   yes       yes  yes       yes   yes
GREEN   in     in    yes       in   yes       yes   no
AMBER   yes    no    yes       yes  no        no    no
STRICT  no     no    no        no   no        no    no
RED     no     no    no        no   no        no    no
`)

// content: scheme, 情報共有 and 報告 columns. What a copy to a role holds, by
// what the source consents to: none, its name, its damage, both.
//
// open: whether a report that is open to all reaches it without being asked.
// Users of the service are told of its state by a step that somebody approves
// (R18), so of open reports they get warnings of the authorities only.
//
//	whole     as signed, with the name
//	nameless  a projection without the name
//	named     a projection with the name
var contents = table(`
                none     named  damage   both     flow      open
operator        nameless named  nameless whole    PEER       yes
isac            nameless named  nameless whole    PEER       yes
users           named    named  named    named    STATUS     no
expert          nameless nameless nameless nameless EXPERT   yes
expert-nda      named    named  named    named    EXPERT_NDA yes
port-authority  whole    whole  whole    whole    AUTHORITY  yes
bureau          whole    whole  whole    whole    AUTHORITY  yes
far-bureau      whole    whole  whole    whole    AUTHORITY  yes
ministry        whole    whole  whole    whole    AUTHORITY  yes
police          whole    whole  whole    whole    AUTHORITY  yes
`)

// routed: the rows of the scheme that give a copy by themselves, by what the
// report says. must: its label has to cover the office (R2, R3). should: left
// out aloud where it does not (R7). All others wait for a person.
var routedTo = table(`
                none impact legal legal-anon designated-anon voluntary near-miss
operator        -    -      -     -          -               -         -
isac            -    -      -     -          -               -         -
users           -    -      -     -          -               -         -
expert          -    -      -     -          -               -         -
expert-nda      -    -      -     -          -               -         -
port-authority  -    must   -     -          -               -         -
bureau          -    must   -     -          -               -         -
far-bureau      -    -      -     -          -               -         -
ministry        -    -      -     -          -               should    -
police          -    -      -     -          -               -         -
`)

// restricted: what 取扱制限 do to a report when it is sent: keep, drop the copy,
// or refuse the report, by why somebody would have a copy.
var restricted = table(`
                 addressed must  should open
none             keep      keep  keep   keep
no_copy          keep      keep  keep   keep
no_export        keep      keep  keep   keep
no_distribution  keep      keep  drop   NO_DISTRIBUTION_NEEDS_RECIPIENTS
chatham          keep      keep  keep   keep
expired          EXPIRED EXPIRED EXPIRED EXPIRED
`)

// passing: what 取扱制限 say when a holder passes a report on.
var passing = table(`
                 source  recipient
none             keep    keep
no_copy          keep    FORWARD_FORBIDDEN
no_export        keep    FORWARD_FORBIDDEN
no_distribution  keep    FORWARD_FORBIDDEN
chatham          keep    keep
expired          EXPIRED EXPIRED
`)

// standing: what addressing somebody that is not an active member says.
var standingError = table(`
         error
self     RECIPIENT_IS_SOURCE
former   RECIPIENT_UNKNOWN
invited  RECIPIENT_NOT_JOINED
unknown  RECIPIENT_UNKNOWN
`)

var (
	oracleLabels       = []string{"CLEAR", "GREEN", "AMBER", "STRICT", "RED"}
	oracleStandings    = []string{"person", "addressed", "unaddressed", "community", "child", "port", "self", "former", "invited", "unknown"}
	oracleRestrictions = []string{"none", "no_copy", "no_export", "no_distribution", "chatham", "expired"}
	oracleSecrecy      = []string{"none", "sworn", "unsworn"}
	oracleDuties       = []string{"none", "impact", "legal", "legal-anon", "designated-anon", "voluntary", "near-miss"}
	oracleConsents     = []string{"none", "named", "damage", "both"}
	oracleKinds        = []string{"incident", "notice"}
	oracleSources      = []string{"operator", "ministry"}
	oracleRoles        = slices.Sorted(maps.Keys(contents))
	oracleLanes        = []pb.Lane{pb.Lane_LANE_LIVE, pb.Lane_LANE_EXERCISE}
)

// oracleCase is one point of the domain of plan.
type oracleCase struct {
	label, standing, role, restriction, secrecy, duty, consent, kind, source string
	inside                                                                   bool // addressed and in the community
	lane                                                                     pb.Lane
}

var oracleLabel = map[string]pb.TlpLabel{
	"CLEAR": pb.TlpLabel_TLP_LABEL_CLEAR, "GREEN": pb.TlpLabel_TLP_LABEL_GREEN, "AMBER": pb.TlpLabel_TLP_LABEL_AMBER,
	"STRICT": pb.TlpLabel_TLP_LABEL_AMBER_STRICT, "RED": pb.TlpLabel_TLP_LABEL_RED,
}

// oraclePolicy is the policy that is built in, with communities.
var oraclePolicy = sync.OnceValue(func() *policy {
	p := *builtIn()
	p.communities = []community{{id: "terminals"}, {id: "tos", parent: "terminals"}, {id: "carriers"}}
	return &p
})

func oracleMember(id, role string) *pb.Member {
	m := &pb.Member{
		Id: id, Name: id + " の名", State: pb.MemberState_MEMBER_STATE_ACTIVE, Communities: []string{"port"},
		Profile: &pb.Profile{Persons: []*pb.Person{{Id: "ciso", Name: "港 一郎"}}},
	}
	switch role {
	case "expert-nda":
		m.Role, m.Nda = pb.Role_ROLE_EXPERT, true
	case "bureau":
		m.Role, m.Jurisdictions = pb.Role_ROLE_REGIONAL_TRANSPORT, []string{"other", "port"}
	case "far-bureau":
		m.Role, m.Jurisdictions = pb.Role_ROLE_REGIONAL_TRANSPORT, []string{"other"}
	default:
		m.Role = pb.Role(pb.Role_value["ROLE_"+strings.ToUpper(strings.ReplaceAll(role, "-", "_"))])
	}
	return m
}

func oracleDirectory(members ...*pb.Member) *directory {
	d := newDirectory()
	d.port, d.revision, d.policy = "port", 7, oraclePolicy()
	for _, m := range members {
		d.members[m.GetId()] = m
	}
	return d
}

// world makes the world of a case: a source, the member that is asked about
// ("it"), and one other that is always addressed when somebody is.
func (c oracleCase) world() world {
	source, it, other := oracleMember("source", c.source), oracleMember("it", c.role), oracleMember("other", "operator")
	source.Communities, other.Communities = []string{"port", "terminals"}, []string{"port", "terminals"}
	if c.inside || c.standing == "community" {
		it.Communities = []string{"port", "terminals"}
	}
	if c.standing == "child" {
		it.Communities = []string{"port", "tos"}
	}
	members := []*pb.Member{source, it, other}
	switch c.standing {
	case "former":
		it.State = pb.MemberState_MEMBER_STATE_REVOKED
	case "invited":
		it.State = pb.MemberState_MEMBER_STATE_INVITED
	case "unknown":
		members = []*pb.Member{source, other}
	}
	if c.secrecy != "none" {
		sworn := []pb.SecrecyRegime{pb.SecrecyRegime_SECRECY_REGIME_CONTRACT}
		source.SecrecyRegimes, other.SecrecyRegimes = sworn, sworn
		it.SecrecyRegimes = []pb.SecrecyRegime{pb.SecrecyRegime_SECRECY_REGIME_COUNCIL_MEMBER}
		if c.secrecy == "sworn" {
			it.SecrecyRegimes = sworn
		}
	}
	if c.duty == "designated-anon" {
		source.Designations = []string{"special-infrastructure-operator"}
	}
	return worldAt(oracleDirectory(members...), oracleNow)
}

// outline is what the source says.
func (c oracleCase) outline() *pb.Outline {
	o := &pb.Outline{
		Tlp: oracleLabel[c.label], Lane: c.lane, SecrecyRegime: pb.SecrecyRegime_SECRECY_REGIME_NONE, CreateTime: oracleStamp,
		Restrictions: oracleRestriction[c.restriction], Facts: make([]pb.Fact, 0, 8),
	}
	if c.label == "GREEN" {
		o.CommunityId = "terminals"
	}
	if c.secrecy != "none" {
		o.SecrecyRegime = pb.SecrecyRegime_SECRECY_REGIME_CONTRACT
	}
	person := ""
	if c.label == "RED" {
		person = "ciso"
	}
	address := func(id, person string) {
		o.Recipients = append(o.Recipients, &pb.Recipient{Member: id, Person: person})
	}
	switch c.standing {
	case "community", "child", "port": // nobody is addressed
	case "unaddressed":
		address("other", person)
	case "person":
		address("other", person)
		address("it", "ciso")
	case "addressed":
		address("other", person)
		address("it", "")
	case "self":
		address("source", person)
	default:
		address("it", person)
	}
	fact := func(f ...pb.Fact) { o.Facts = append(o.Facts, f...) }
	switch c.kind {
	case "incident":
		fact(pb.Fact_FACT_INCIDENT)
	case "notice":
		fact(pb.Fact_FACT_NOTICE)
	}
	route := pb.Fact_FACT_DIRECT
	switch c.duty {
	case "impact":
		fact(pb.Fact_FACT_BUSINESS_IMPACT)
	case "legal", "legal-anon":
		fact(pb.Fact_FACT_LEGAL_DUTY)
	case "designated-anon":
		fact(pb.Fact_FACT_DESIGNATED_COMPUTER)
	case "voluntary":
		fact(pb.Fact_FACT_VOLUNTARY)
	case "near-miss":
		fact(pb.Fact_FACT_NEAR_MISS, pb.Fact_FACT_TOS)
	}
	if strings.HasSuffix(c.duty, "-anon") {
		route = pb.Fact_FACT_SECRETARIAT_ANON
	}
	fact(route)
	fact(oracleConsent[c.consent]...)
	return o
}

var (
	oracleNow     = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	oracleStamp   = timestamppb.New(oracleNow)
	oracleConsent = map[string][]pb.Fact{
		"named": {pb.Fact_FACT_PEER_NAMED}, "damage": {pb.Fact_FACT_PEER_DAMAGE}, "both": {pb.Fact_FACT_PEER_NAMED, pb.Fact_FACT_PEER_DAMAGE},
	}
	oracleRestriction = map[string]*pb.Restrictions{
		"no_copy": {NoCopy: true}, "no_export": {NoExport: true}, "no_distribution": {NoDistribution: true}, "chatham": {ChathamHouse: true},
		"expired": {ExpireTime: oracleStamp},
	}
)

// verdict is what the oracle says: what "it" gets, or why the report is refused.
type verdict struct {
	it, other string // whole, named, nameless, or empty
	refused   map[string]bool
}

func (v *verdict) refuse(reason string) {
	if v.refused == nil {
		v.refused = map[string]bool{}
	}
	v.refused[reason] = true
}

// holds looks up what a copy to a role holds.
func holds(role, consent, kind, source string) string {
	if kind == "notice" && source == "ministry" {
		return "whole" // an issuer's own warning tells of nobody's damage
	}
	return contents[role][consent]
}

// expected looks a case up in the tables.
func (c oracleCase) expected() (v verdict) {
	if strings.HasSuffix(c.duty, "-anon") {
		v.refuse("ANONYMITY_REFUSED")
	}
	if restricted[c.restriction]["open"] == "EXPIRED" {
		v.refuse("EXPIRED")
	}
	open := c.standing == "community" || c.standing == "child" || c.standing == "port"
	covered := func(cell string, inside bool) bool { return cell == "yes" || cell == "in" && inside }

	// The other: addressed as it should be, or open to it.
	otherStanding := "addressed"
	if c.label == "RED" {
		otherStanding = "person"
	}
	switch c.standing {
	case "unaddressed", "person", "addressed":
		if covered(mayRead[c.label][otherStanding], true) {
			v.other = holds("operator", c.consent, c.kind, c.source)
		}
	case "community", "child", "port":
		if refusal := restricted[c.restriction]["open"]; refusal == "keep" && mayRead[c.label]["community"] == "yes" {
			v.other = holds("operator", c.consent, c.kind, c.source)
		} else if refusal != "keep" && mayRead[c.label]["community"] == "yes" {
			v.refuse(refusal)
		}
	}

	if row, ok := standingError[c.standing]; ok {
		v.refuse(row["error"])
		if c.standing != "self" {
			return v // not here: no rule finds it either
		}
	}
	inside := c.inside || c.standing == "community" || c.standing == "child"
	duty := "-"
	if c.source == "operator" || c.duty == "voluntary" {
		duty = routedTo[c.role][c.duty]
	}
	secret := c.secrecy != "unsworn"
	itHolds := holds(c.role, c.consent, c.kind, c.source)
	switch {
	case c.standing == "person" || c.standing == "addressed":
		switch {
		case !covered(mayRead[c.label][c.standing], inside):
			v.refuse("RECIPIENT_OUTSIDE_LABEL")
		case !secret:
			v.refuse("RECIPIENT_OUTSIDE_SECRECY")
		default:
			v.it = itHolds
		}
	case duty != "-" && !(covered(mayRead[c.label]["routed"], inside) && secret):
		if duty == "must" {
			v.refuse("MANDATORY_OUTSIDE_LABEL")
		}
	case duty != "-":
		if restricted[c.restriction][duty] == "keep" {
			v.it = itHolds
		}
	case open && mayRead[c.label][c.standing] == "yes" && secret && (contents[c.role]["open"] == "yes" || itHolds == "whole"):
		v.it = itHolds
	}
	if len(v.refused) == 0 && v.it == "" && v.other == "" {
		v.refuse(map[bool]string{true: "NOBODY_RECEIVES", false: "RECIPIENTS_MISSING"}[!open || mayRead[c.label]["community"] == "yes"])
	}
	return v
}

// held says in a word what a copy holds.
func heldBy(p *pb.Plan, member string) string {
	c := copyFor(p, member)
	switch {
	case c == nil:
		return ""
	case c.GetFlow() == pb.Flow_FLOW_AUTHORITY && c.GetNamed():
		return "whole"
	case c.GetNamed():
		return "named"
	case c.GetFlow() == pb.Flow_FLOW_AUTHORITY || c.GetFlow() == pb.Flow_FLOW_UNSPECIFIED:
		return "whole without a name, which there is not"
	}
	return "nameless"
}

func reasonsOf(bad []rpc.Violation) map[string]bool {
	var all map[string]bool
	for _, v := range bad {
		if all == nil {
			all = map[string]bool{}
		}
		all[v.Reason] = true
	}
	return all
}

// eachCase calls f for the whole finite domain, on two processors.
func eachCase(f func(oracleCase, world) error) (cases int64, err error) {
	var c oracleCase
	var worlds int
	var counted atomic.Int64
	var failed atomic.Pointer[error]
	var parts []oracleCase
	next := make(chan oracleCase)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for c := range next {
				if failed.Load() != nil {
					continue
				}
				n, err := c.reports(f)
				counted.Add(n)
				if err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	for _, c.standing = range oracleStandings {
		for _, c.role = range oracleRoles {
			for _, c.secrecy = range oracleSecrecy {
				for _, c.source = range oracleSources {
					for _, c.duty = range oracleDuties {
						for _, c.inside = range []bool{false, true} {
							if c.inside && (c.standing == "community" || c.standing == "child" || c.standing == "port") {
								continue // the standing says it already
							}
							if worlds++; worlds%everyNthWorld == 0 {
								parts = append(parts, c)
							}
						}
					}
				}
			}
		}
	}
	// In no order, so that a fault shows soon wherever it is.
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	for _, c := range parts {
		next <- c
	}
	close(next)
	wg.Wait()
	if failed := failed.Load(); failed != nil {
		err = *failed
	}
	return counted.Load(), err
}

// reports calls f for every report in the world of a case.
func (c oracleCase) reports(f func(oracleCase, world) error) (cases int64, err error) {
	w := c.world()
	for _, c.label = range oracleLabels {
		for _, c.restriction = range oracleRestrictions {
			for _, c.consent = range oracleConsents {
				for _, c.kind = range oracleKinds {
					for _, c.lane = range oracleLanes {
						if err := f(c, w); err != nil {
							return cases, err
						}
						cases++
					}
				}
			}
		}
	}
	return cases, nil
}

func TestThePlanIsWhatTheTablesSayOverTheWholeDomain(t *testing.T) {
	cases, err := eachCase(func(c oracleCase, w world) error {
		p, bad := plan(c.outline(), "source", nil, w)
		want := c.expected()
		got := verdict{it: heldBy(p, "it"), other: heldBy(p, "other"), refused: reasonsOf(bad)}
		if want.refused != nil {
			want.it, want.other = "", ""
		}
		if want.it != got.it || want.other != got.other || !maps.Equal(want.refused, got.refused) {
			return fmt.Errorf("%+v\nthe tables say %+v\nthe plan says  %+v", c, want, got)
		}
		if copied := copyFor(p, "it"); copied != nil && got.it != "whole" && copied.GetFlow() != pb.Flow(pb.Flow_value["FLOW_"+contents[c.role]["flow"]]) {
			return fmt.Errorf("%+v\nthe way is %v", c, copied.GetFlow())
		}
		if n := len(p.GetCopies()); n > 2 || (p != nil && n == 0) {
			return fmt.Errorf("%+v\n%d copies", c, n)
		}
		return nil
	})
	require.NoError(t, err)
	// 5 labels, 10 standings (7 of them inside or outside of the community),
	// 10 roles, 6 restrictions, 3 states of secrecy, 7 duties, 4 consents,
	// 2 kinds, 2 kinds of source, 2 lanes.
	worlds := 17 * 10 * 3 * 7 * 2
	require.EqualValues(t, worlds/everyNthWorld*(5*6*4*2*2), cases)
}

// passCase is one point of the domain of onward.
type passCase struct {
	label, holder, why, role, restriction, secrecy string
	inside, person                                 bool
	lane                                           pb.Lane
}

var (
	// source: its own report. whole: as signed. nameless: a projection. client:
	// as signed, and got as the client of a recipient.
	oracleHolders = []string{"source", "whole", "nameless", "client"}
	// Why the holder thinks that the other may have it.
	oracleWhys = []string{"client", "permitted-role", "permitted-member", "permitted-another", "task", "task-role", "community", "child", "port", "has", "by", "self", "former", "invited", "unknown"}
)

// expected looks a case up in the tables.
func (c passCase) expected() (v verdict) {
	who := "recipient"
	if c.holder == "source" {
		who = "source"
	}
	if reason := passing[c.restriction][who]; reason != "keep" {
		v.refuse(reason)
	}
	if who == "recipient" {
		if c.label == "STRICT" || c.label == "RED" {
			v.refuse("ONLY_THE_SOURCE_FORWARDS")
		}
		if c.secrecy != "none" {
			v.refuse("FORWARD_FORBIDDEN")
		}
	}
	// A recipient does not learn whose report it is.
	if row, ok := standingError[c.why]; ok && !(c.why == "self" && who == "recipient") {
		v.refuse(row["error"])
		return v
	}
	switch {
	case c.why == "by" && who == "source":
		v.refuse("RECIPIENT_IS_SOURCE")
		return v
	case c.person != (c.label == "RED"):
		v.refuse("RED_NEEDS_PERSONS")
		return v
	case c.why == "by", c.why == "has" && c.label != "RED":
		v.refuse("RECIPIENT_HAS_IT")
		return v
	}
	inside := c.inside || c.why == "community" || c.why == "child"
	covered := func(cell string) bool { return cell == "yes" || cell == "in" && inside }
	allowed := false
	if who == "source" {
		standing := map[bool]string{true: "person", false: "addressed"}[c.person]
		allowed = covered(mayRead[c.label][standing]) && c.secrecy != "unsworn"
	} else {
		column := map[string]string{"permitted-role": "permitted", "permitted-member": "permitted", "permitted-another": "port", "task-role": "task", "has": "port", "self": "port"}[c.why]
		if column == "" {
			column = c.why
		}
		if c.why == "client" && c.holder == "client" {
			column = "chain"
		}
		// Whatever the reason, the label may permit it without one.
		here := map[bool]string{true: "community", false: "port"}[inside]
		allowed = (covered(mayPassOn[c.label][column]) || covered(mayPassOn[c.label][here])) && c.secrecy != "unsworn"
	}
	if !allowed {
		v.refuse(map[string]string{"source": "RECIPIENT_OUTSIDE_LABEL", "recipient": "NOT_YOURS_TO_GIVE"}[who])
		return v
	}
	v.it = contents[c.role]["none"]
	switch {
	case who == "source":
	case c.restriction == "chatham", c.holder == "nameless":
		v.it = "nameless"
	}
	return v
}

// decide asks onward.
func (c passCase) decide() (*pb.Plan, []rpc.Violation) {
	source, by, it := oracleMember("source", "operator"), oracleMember("by", "port-authority"), oracleMember("it", c.role)
	if c.inside || c.why == "community" {
		it.Communities = []string{"port", "terminals"}
	}
	if c.why == "child" {
		it.Communities = []string{"port", "tos"}
	}
	held := &pb.Copy{
		Member: "by", Flow: pb.Flow_FLOW_AUTHORITY, Named: true,
		Grounds: []*pb.Ground{{Rule: "ADDRESSED", Obligation: pb.Obligation_OBLIGATION_MAY}},
	}
	switch c.holder {
	case "nameless":
		by.Role, held.Flow, held.Named = pb.Role_ROLE_ISAC, pb.Flow_FLOW_PEER, false
	case "client":
		held.Grounds[0].Rule, held.ForwardedBy = "CLIENT", "other"
	}
	o := &pb.Outline{Tlp: oracleLabel[c.label], Lane: c.lane, Facts: []pb.Fact{pb.Fact_FACT_INCIDENT}}
	h := &pb.Handling{Tlp: o.Tlp, Restrictions: oracleRestriction[c.restriction], SecrecyRegime: pb.SecrecyRegime_SECRECY_REGIME_NONE}
	if c.label == "GREEN" {
		h.CommunityId = "terminals"
	}
	members := []*pb.Member{source, by, it}
	to := &pb.Recipient{Member: "it"}
	if c.person {
		to.Person = "ciso"
	}
	had := func(r *pb.Recipient) bool { // under TLP:RED it is another person of the member that has it
		return r.GetPerson() == "" && (r.GetMember() == "by" && c.holder != "source" || c.why == "has" && r.GetMember() == "it")
	}
	word := func(m *pb.Member) string {
		return strings.ToLower(strings.TrimPrefix(m.GetRole().String(), "ROLE_"))
	}
	d := oracleDirectory()
	p := *d.policy
	p.routes = slices.Clone(p.routes)
	d.policy = &p
	switch c.why {
	case "client":
		by.Clients = []string{"somebody", "it"}
	case "permitted-role":
		h.OnwardPermissions = []*pb.OnwardPermission{{By: "council", To: "it"}, {By: word(by), To: word(it)}}
	case "permitted-member":
		h.OnwardPermissions = []*pb.OnwardPermission{{By: "by", To: "council"}, {By: "by", To: "it"}}
	case "permitted-another": // to pass it on, or to have it
		h.OnwardPermissions = []*pb.OnwardPermission{{By: "council", To: "it"}, {By: "by", To: "council"}}
	case "task":
		held.Tasks = []*pb.Step{{Ground: &pb.Ground{Rule: "T1", Obligation: pb.Obligation_OBLIGATION_MUST}, Act: pb.Act_ACT_TASK, Members: []string{"it"}}}
	case "task-role": // it joined after the task was given
		held.Tasks = []*pb.Step{{Ground: &pb.Ground{Rule: "T1", Obligation: pb.Obligation_OBLIGATION_MUST}, Act: pb.Act_ACT_TASK, Role: word(it)}}
		p.routes = append(p.routes, route{id: "T1", act: pb.Act_ACT_TASK, by: by.GetRole(), to: []pb.Role{it.GetRole()}})
	case "by":
		to.Member, by.Profile = "by", it.Profile
	case "self":
		source = it
		members = []*pb.Member{by, it}
	case "former":
		it.State = pb.MemberState_MEMBER_STATE_REVOKED
	case "invited":
		it.State = pb.MemberState_MEMBER_STATE_INVITED
	case "unknown":
		members = members[:2]
	}
	o.OnwardPermissions = h.OnwardPermissions
	if c.secrecy != "none" {
		h.SecrecyRegime = pb.SecrecyRegime_SECRECY_REGIME_CONTRACT
		if c.secrecy == "sworn" {
			it.SecrecyRegimes = []pb.SecrecyRegime{pb.SecrecyRegime_SECRECY_REGIME_CONTRACT}
		}
		by.SecrecyRegimes = []pb.SecrecyRegime{pb.SecrecyRegime_SECRECY_REGIME_CONTRACT}
	}
	for _, m := range members {
		d.members[m.GetId()] = m
	}
	w := worldAt(d, oracleNow)
	if c.holder == "source" {
		if c.why == "by" {
			to.Member, source.Profile = "source", it.Profile
		}
		return onward(o, h, source, source, nil, []*pb.Recipient{to}, had, w)
	}
	return onward(o, h, source, by, held, []*pb.Recipient{to}, had, w)
}

func TestPassingOnIsWhatTheTablesSayOverTheWholeDomain(t *testing.T) {
	var c passCase
	cases, worlds := 0, 0
	for _, c.label = range oracleLabels {
		for _, c.holder = range oracleHolders {
			for _, c.why = range oracleWhys {
				for _, c.role = range oracleRoles {
					if worlds++; worlds%everyNthWorld != 0 {
						continue
					}
					for _, c.restriction = range oracleRestrictions {
						for _, c.secrecy = range oracleSecrecy {
							for _, c.inside = range []bool{false, true} {
								for _, c.person = range []bool{false, true} {
									for _, c.lane = range oracleLanes {
										cases++
										p, bad := c.decide()
										want, refused := c.expected(), reasonsOf(bad)
										for _, all := range []map[string]bool{want.refused, refused} {
											if len(all) > 1 { // nobody may pass it on at all: why not to this one does not matter
												delete(all, "NOT_YOURS_TO_GIVE")
											}
										}
										if want.refused != nil {
											want.it = ""
										}
										if got := heldBy(p, "it"); got != want.it || !maps.Equal(refused, want.refused) {
											require.Failf(t, "not what the tables say", "%+v\nthe tables say %+v\nonward says    %q %v", c, want, got, refused)
										}
										if copied := copyFor(p, "it"); copied != nil && (copied.GetForwardedBy() == "by") == (c.holder == "source") {
											require.Failf(t, "who passed it on", "%+v %v", c, copied)
										}
									}
								}
							}
						}
					}
				}
			}
		}
	}
	// 5 labels, 4 holders, 15 reasons, 10 roles, 6 restrictions, 3 states of
	// secrecy, inside or outside, a person or not, 2 lanes.
	require.Equal(t, 5*4*15*10/everyNthWorld*(6*3*2*2*2), cases)
}

// rows: the routing table of the scheme, one line a row, entered a second time
// from the guideline: what must be said (all of when, one of any, none of
// unless), whose report it is, who passes it on (by), who is told.
const rows = `
id       when                        any                      unless            from                                        by             to                                                                          near identity   obligation act    form             mode
R1       incident                    -                        -                 -                                           -              -                                                                           -    named      must       auto   -                -
R2       business_impact             -                        -                 operator,port_company                       -              regional_transport                                                          near named      must       auto   -                -
R3       business_impact             -                        -                 operator,port_company                       -              port_authority                                                              -    named      must       auto   -                -
R4       business_impact             -                        -                 operator,port_company                       port_authority regional_development                                                        near named      must       task   -                -
R5       attack                      -                        -                 operator,port_company                       -              police                                                                      near named      must       prompt -                -
R6       legal_duty                  -                        -                 -                                           -              ministry                                                                    -    named      law        export cip-joho-renraku -
R7       direct                      serious_impact,voluntary legal_duty        -                                           -              ministry                                                                    -    named      should     auto   -                -
R8       secretariat_anon            -                        legal_duty        -                                           -              secretariat                                                                 -    anonymised may        auto   -                -
R9       unsure_consult              -                        secretariat_anon  -                                           -              ministry                                                                    -    named      should     prompt -                -
R10      -                           -                        -                 operator,port_company                       -              operator,port_company                                                       -    projected  may        prompt -                -
R11      attack                      -                        -                 -                                           -              expert                                                                      -    projected  should     prompt -                -
R12      -                           -                        -                 operator,port_company,port_authority,secretariat ministry   cabinet_cyber,secretariat                                                   -    named      plan       task   -                -
R13      notice                      -                        -                 cabinet_cyber                               -              ministry,secretariat,operator                                               -    named      plan       auto   -                -
R14      -                           -                        -                 secretariat                                 -              ministry,incident_ministry,disaster_ministry,expert,council,operator        -    projected  plan       prompt -                -
R14-in   -                           -                        -                 ministry,incident_ministry,disaster_ministry,expert,council - secretariat                                                              -    projected  plan       prompt -                -
R15      -                           -                        -                 operator,port_company,secretariat           -              council                                                                     -    projected  may        prompt -                -
R16      -                           -                        -                 operator,port_company,port_authority        -              isac                                                                        -    projected  may        prompt -                -
R17      near_miss,tos               -                        -                 operator,port_company                       -              operator                                                                    -    projected  should     prompt -                -
R18      users_affected              -                        -                 operator,port_company                       -              users                                                                       -    projected  must       prompt -                -
R19      personal_data               -                        notice            -                                           -              privacy_commission                                                          -    named      law        export -                -
R20      -                           -                        -                 ministry,incident_ministry,disaster_ministry -              cabinet_cyber,cabinet_crisis                                                -    named      plan       auto   -                large
R20-task -                           -                        -                 operator,port_company,port_authority,secretariat ministry  cabinet_crisis                                                              -    named      plan       task   -                large
R22      cabinet_consent             -                        -                 operator,port_company                       ministry       cabinet_cyber                                                               -    named      may        task   -                -
R23      business_impact             -                        -                 operator,port_company,port_authority        -              coast_guard                                                                 near named      may        prompt -                off
`

func TestTheBuiltInPolicyIsTheTableOfTheScheme(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(rows), "\n")
	word := func(prefix string, v fmt.Stringer) string {
		return strings.ToLower(strings.TrimPrefix(v.String(), prefix))
	}
	facts := func(all []pb.Fact) string {
		var words []string
		for _, f := range all {
			words = append(words, word("FACT_", f))
		}
		return cmp.Or(strings.Join(words, ","), "-")
	}
	roles := func(all ...pb.Role) string {
		var words []string
		for _, r := range all {
			if r != 0 {
				words = append(words, word("ROLE_", r))
			}
		}
		return cmp.Or(strings.Join(words, ","), "-")
	}
	p := builtIn()
	require.Len(t, p.routes, len(lines)-1)
	for i, r := range p.routes {
		mode := map[[2]bool]string{{true, false}: "large", {false, true}: "off"}[[2]bool{r.large, r.off}]
		got := []string{
			r.id, facts(r.when), facts(r.anyOf), facts(r.unless), roles(r.from...), roles(r.by), roles(r.to...), map[bool]string{true: "near", false: "-"}[r.near],
			string(r.identity), word("OBLIGATION_", r.obligation), word("ACT_", r.act), cmp.Or(r.form, "-"), cmp.Or(mode, "-"),
		}
		require.Equal(t, strings.Fields(lines[i+1]), got)
		require.NotEmpty(t, r.sentence, "%s names its sentence", r.id)
	}
	require.Len(t, p.duties, 1)
	d := p.duties[0]
	require.Equal(t, "R21 special-infrastructure-operator true ministry,cabinet_cyber act-art5-2026 2026-09-30T15:00:00Z 0s 0s",
		fmt.Sprint(d.id, " ", d.designation, " ", d.system, " ", roles(d.to...), " ", d.form, " ", d.from.UTC().Format(time.RFC3339), " ", d.preliminary, " ", d.detailed))
	require.Equal(t, map[tlp.Label]time.Duration{tlp.Clear: 30 * 24 * time.Hour, tlp.Green: 7 * 24 * time.Hour}, p.backlog)
	require.Equal(t, "cabinet_crisis cabinet_cyber coast_guard council disaster_ministry expert incident_ministry isac ministry police port_authority "+
		"privacy_commission regional_development regional_transport secretariat", issuersOf(p))
	for _, r := range p.routes {
		if r.id == "R22" {
			require.Equal(t, "2025-09-30T15:00:00Z", r.period.from.UTC().Format(time.RFC3339))
		}
	}
	require.False(t, p.largeScale)
	require.Empty(t, p.communities)
}

func issuersOf(p *policy) string {
	var all []string
	for r, is := range p.issuers {
		if is {
			all = append(all, strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_")))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
