package hub

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	pb "minato.example/proto/minato/v1"
)

// golden is the routing table of the guideline, row by row, beside the policy
// that is to say the same: a source and what its report says, and what the row
// then asks for. lacking is every way to take one condition away, after which
// the row must not fire.
type golden struct {
	rule     string
	source   string
	from     string // all roles whose reports make it fire; empty for any
	facts    string
	large    bool
	to       string
	by       string
	identity identity
	duty     pb.Obligation
	act      pb.Act
	form     string
	near     bool
	outside  bool
	lacking  []string // SOURCE: FACTS
}

const (
	byLaw  = pb.Obligation_OBLIGATION_LAW
	must   = pb.Obligation_OBLIGATION_MUST
	byPlan = pb.Obligation_OBLIGATION_PLAN
	should = pb.Obligation_OBLIGATION_SHOULD
	may    = pb.Obligation_OBLIGATION_MAY
	auto   = pb.Act_ACT_AUTO
	prompt = pb.Act_ACT_PROMPT
	task   = pb.Act_ACT_TASK
	export = pb.Act_ACT_EXPORT
)

var routingTable = []golden{
	{rule: "R1", source: "operator", facts: "incident", to: "", identity: named, duty: must, act: auto,
		lacking: []string{"operator: notice business_impact"}},
	{rule: "R2", source: "operator", from: "operator port_company", facts: "business_impact", to: "regional_transport", identity: named, duty: must, act: auto, near: true,
		lacking: []string{"operator: incident attack", "users: business_impact", "ministry: business_impact"}},
	{rule: "R3", source: "port_company", from: "operator port_company", facts: "business_impact attack", to: "port_authority", identity: named, duty: must, act: auto,
		lacking: []string{"port_company: incident", "isac: business_impact"}},
	{rule: "R4", source: "operator", from: "operator port_company", facts: "business_impact", to: "regional_development", by: "port_authority", identity: named, duty: must, act: task, near: true,
		lacking: []string{"operator: incident", "port_authority: business_impact"}},
	{rule: "R5", source: "operator", from: "operator port_company", facts: "attack", to: "police", identity: named, duty: must, act: prompt, near: true,
		lacking: []string{"operator: incident business_impact", "expert: attack"}},
	{rule: "R6", source: "operator", facts: "legal_duty", to: "ministry", identity: named, duty: byLaw, act: export, form: "cip-joho-renraku",
		lacking: []string{"operator: serious_impact direct"}},
	{rule: "R7", source: "operator", facts: "direct serious_impact", to: "ministry", identity: named, duty: should, act: auto,
		lacking: []string{"operator: serious_impact", "operator: direct", "operator: direct serious_impact legal_duty",
			"operator: secretariat_anon serious_impact", "operator: secretariat_named voluntary"}},
	{rule: "R7", source: "operator", facts: "direct voluntary", to: "ministry", identity: named, duty: should, act: auto,
		lacking: []string{"operator: direct unsure_consult"}},
	{rule: "R8", source: "operator", facts: "secretariat_anon", to: "secretariat", identity: anonymised, duty: may, act: auto,
		lacking: []string{"operator: direct voluntary", "operator: secretariat_anon legal_duty", "operator: secretariat_named"}},
	{rule: "R9", source: "operator", facts: "unsure_consult direct", to: "ministry", identity: named, duty: should, act: prompt,
		lacking: []string{"operator: direct voluntary", "operator: unsure_consult secretariat_anon"}},
	{rule: "R10", source: "operator", from: "operator port_company", facts: "", to: "operator port_company", identity: projected, duty: may, act: prompt,
		lacking: []string{"ministry: incident", "users: incident"}},
	{rule: "R11", source: "operator", facts: "attack", to: "expert", identity: projected, duty: should, act: prompt,
		lacking: []string{"operator: incident technique"}},
	{rule: "R12", source: "operator", from: "operator port_company port_authority secretariat", facts: "", to: "cabinet_cyber secretariat", by: "ministry", identity: named, duty: byPlan, act: task,
		lacking: []string{"cabinet_cyber: notice", "police: incident"}},
	{rule: "R13", source: "cabinet_cyber", from: "cabinet_cyber", facts: "notice", to: "ministry secretariat operator", identity: named, duty: byPlan, act: auto,
		lacking: []string{"cabinet_cyber: incident", "ministry: notice", "operator: notice"}},
	{rule: "R14", source: "secretariat", from: "secretariat", facts: "", to: "ministry incident_ministry disaster_ministry expert council operator", identity: projected, duty: byPlan, act: prompt,
		lacking: []string{"operator: incident", "ministry: notice"}},
	{rule: "R14-in", source: "ministry", from: "ministry incident_ministry disaster_ministry expert council", facts: "", to: "secretariat", identity: projected, duty: byPlan, act: prompt,
		lacking: []string{"operator: incident", "secretariat: notice"}},
	{rule: "R15", source: "secretariat", from: "operator port_company secretariat", facts: "", to: "council", identity: projected, duty: may, act: prompt,
		lacking: []string{"ministry: notice", "council: notice"}},
	{rule: "R16", source: "operator", from: "operator port_company port_authority", facts: "", to: "isac", identity: projected, duty: may, act: prompt,
		lacking: []string{"ministry: notice", "isac: notice"}},
	{rule: "R17", source: "operator", from: "operator port_company", facts: "near_miss tos", to: "operator", identity: projected, duty: should, act: prompt,
		lacking: []string{"operator: near_miss", "operator: tos", "secretariat: near_miss tos"}},
	{rule: "R18", source: "operator", from: "operator port_company", facts: "users_affected", to: "users", identity: projected, duty: must, act: prompt,
		lacking: []string{"operator: business_impact", "users: users_affected"}},
	{rule: "R19", source: "operator", facts: "personal_data", to: "privacy_commission", identity: named, duty: byLaw, act: export, outside: true,
		lacking: []string{"operator: incident", "isac: personal_data notice"}},
	{rule: "R20", source: "incident_ministry", from: "ministry incident_ministry disaster_ministry", facts: "", large: true, to: "cabinet_cyber cabinet_crisis", identity: named, duty: byPlan, act: auto, outside: true,
		lacking: []string{"operator: business_impact", "police: incident"}},
	{rule: "R20-task", source: "operator", from: "operator port_company port_authority secretariat", facts: "", large: true, to: "cabinet_crisis", by: "ministry", identity: named, duty: byPlan, act: task, outside: true,
		lacking: []string{"police: incident"}},
	{rule: "R22", source: "operator", from: "operator port_company", facts: "cabinet_consent", to: "cabinet_cyber", by: "ministry", identity: named, duty: may, act: task,
		lacking: []string{"operator: incident", "police: cabinet_consent"}},
}

var tableDay = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

func roleOf(t testing.TB, word string) pb.Role {
	t.Helper()
	n, ok := pb.Role_value["ROLE_"+strings.ToUpper(word)]
	require.True(t, ok, word)
	return pb.Role(n)
}

func rolesOf(t testing.TB, words string) (roles []pb.Role) {
	for w := range strings.FieldsSeq(words) {
		roles = append(roles, roleOf(t, w))
	}
	return roles
}

func saying(t testing.TB, words string) *pb.Outline {
	t.Helper()
	o := new(pb.Outline)
	for w := range strings.FieldsSeq(words) {
		n, ok := pb.Fact_value["FACT_"+strings.ToUpper(w)]
		require.True(t, ok, w)
		o.Facts = append(o.Facts, pb.Fact(n))
	}
	return o
}

// fired is the row of that id which a report makes fire.
func fired(t testing.TB, p *policy, rule, source, facts string) (route, bool) {
	t.Helper()
	for _, r := range p.fire(saying(t, facts), &pb.Member{Role: roleOf(t, source)}) {
		if r.id == rule {
			return r, true
		}
	}
	return route{}, false
}

func largeScale(p *policy) *policy {
	q := *p
	q.largeScale = true
	return &q
}

func TestEveryRowOfTheGuidelineFiresWhenItMustAndOnlyThen(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range routingTable {
		t.Run(g.rule+" "+g.facts, func(t *testing.T) {
			seen[g.rule] = true
			p := builtIn().at(tableDay)
			if g.large {
				_, ok := fired(t, p, g.rule, g.source, g.facts)
				require.False(t, ok, "only in large-scale mode")
				p = largeScale(p)
			}
			r, ok := fired(t, p, g.rule, g.source, g.facts)
			require.True(t, ok, "does not fire")
			require.Equal(t, rolesOf(t, g.to), r.to)
			require.Equal(t, g.identity, r.identity)
			require.Equal(t, g.duty, r.obligation)
			require.Equal(t, g.act, r.act)
			require.Equal(t, g.form, r.form)
			require.Equal(t, g.near, r.near)
			require.Equal(t, g.outside, r.outside)
			require.Equal(t, append(rolesOf(t, g.by), 0)[0], r.by)
			if g.rule != "R22" { // of the common form, not of the guideline
				require.Contains(t, r.sentence, "港湾分野ガイドライン(第2版)")
			}
			for n := range pb.Role_name {
				if role := wordFor(pb.Role(n)); n != 0 {
					_, ok := fired(t, p, g.rule, role, g.facts)
					require.Equal(t, g.from == "" || slices.Contains(strings.Fields(g.from), role), ok, "from %s", role)
				}
			}
			for _, l := range g.lacking {
				source, facts, ok := strings.Cut(l, ":")
				require.True(t, ok, l)
				_, ok = fired(t, p, g.rule, source, facts)
				require.False(t, ok, "fires for %s", l)
			}
		})
	}
	for _, r := range builtIn().routes {
		require.True(t, seen[r.id] || r.off, "row %s has no golden entry", r.id)
	}
}

func TestTheCommonFormGoesOnOnlySinceItExists(t *testing.T) {
	begin := time.Date(2025, 10, 1, 0, 0, 0, 0, zone)
	for at, want := range map[time.Time]bool{begin: true, begin.Add(-time.Nanosecond): false} {
		_, ok := fired(t, builtIn().at(at), "R22", "operator", "cabinet_consent")
		require.Equal(t, want, ok, at)
	}
}

func TestTheCoastGuardIsToldOnlyWhereThePortHasAgreedOnIt(t *testing.T) {
	p := builtIn().at(tableDay)
	_, ok := fired(t, p, "R23", "operator", "business_impact")
	require.False(t, ok, "no sentence of the guideline asks for it")
	on, err := parsePolicy("policy.toml", []byte(strings.Replace(string(policyText), "off = true\nwhen", "when", 1)))
	require.NoError(t, err)
	r, ok := fired(t, on.at(tableDay), "R23", "operator", "business_impact")
	require.True(t, ok)
	require.Equal(t, []pb.Role{pb.Role_ROLE_COAST_GUARD}, r.to)
	require.Equal(t, prompt, r.act)
}

func TestTheLawOfActiveCyberDefenceObligesByDesignationAlone(t *testing.T) {
	designated := &pb.Member{Role: pb.Role_ROLE_OPERATOR, Designations: []string{"other", "special-infrastructure-operator"}}
	hit := "incident designated_computer"
	in := func(day string) *policy {
		at, err := time.Parse(time.RFC3339, day)
		require.NoError(t, err)
		return builtIn().at(at)
	}
	owed := in("2026-10-01T00:00:00+09:00").dutiesOf(saying(t, hit), designated)
	require.Len(t, owed, 1)
	require.Equal(t, "R21", owed[0].id)
	require.Equal(t, []pb.Role{pb.Role_ROLE_MINISTRY, pb.Role_ROLE_CABINET_CYBER}, owed[0].to)
	require.Equal(t, "act-art5-2026", owed[0].form)
	require.True(t, owed[0].outside)
	require.Zero(t, owed[0].preliminary, "no deadline until one is known")
	require.Zero(t, owed[0].detailed)
	require.Empty(t, in("2026-09-30T23:59:59+09:00").dutiesOf(saying(t, hit), designated), "not yet in force")
	require.Empty(t, in("2026-10-01T00:00:00+09:00").dutiesOf(saying(t, "incident business_impact attack"), designated), "no designated computer")
	for _, role := range pb.Role_value {
		other := &pb.Member{Role: pb.Role(role), Designations: []string{"specified-infrastructure-operator"}}
		require.Empty(t, in("2026-11-22T00:00:00Z").dutiesOf(saying(t, hit), other), "never by sector alone")
	}
}

func TestADutyWithoutASystemNeedsTheDesignationOnly(t *testing.T) {
	p := &policy{duties: []duty{{id: "a", designation: "x"}, {id: "b", designation: "x", system: true}, {id: "c", designation: "y"}}}
	var ids []string
	for _, d := range p.dutiesOf(saying(t, "incident"), &pb.Member{Designations: []string{"x"}}) {
		ids = append(ids, d.id)
	}
	require.Equal(t, []string{"a"}, ids)
}

func TestLargeScaleModeAddsRowsAndRemovesNone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := builtIn().at(tableDay)
		o, source := drawOutline(t), &pb.Member{Role: pb.Role(rapid.Int32Range(1, 18).Draw(t, "role"))}
		calm, large := p.fire(o, source), largeScale(p).fire(o, source)
		for _, r := range calm {
			require.True(t, slices.ContainsFunc(large, func(l route) bool { return l.id == r.id }), r.id)
		}
		for _, r := range large {
			require.True(t, r.large || slices.ContainsFunc(calm, func(c route) bool { return c.id == r.id }), r.id)
		}
	})
}

func drawOutline(t *rapid.T) *pb.Outline {
	o := new(pb.Outline)
	for _, n := range rapid.SliceOfDistinct(rapid.Int32Range(1, int32(len(pb.Fact_name)-1)), rapid.ID).Draw(t, "facts") {
		o.Facts = append(o.Facts, pb.Fact(n))
	}
	return o
}

// The conditions of a row in another style than the code: a formula over sets.
func TestARowFiresExactlyWhenItsFormulaHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := func(name string) (all []pb.Fact) {
			for _, n := range rapid.SliceOfN(rapid.Int32Range(1, 6), 0, 3).Draw(t, name) {
				all = append(all, pb.Fact(n))
			}
			return all
		}
		r := route{id: "x", when: facts("when"), anyOf: facts("any"), unless: facts("unless"), off: rapid.Bool().Draw(t, "off"), large: rapid.Bool().Draw(t, "large")}
		for _, n := range rapid.SliceOfN(rapid.Int32Range(1, 3), 0, 2).Draw(t, "from") {
			r.from = append(r.from, pb.Role(n))
		}
		o := &pb.Outline{Facts: facts("facts")}
		role := pb.Role(rapid.Int32Range(1, 3).Draw(t, "role"))
		p := &policy{routes: []route{r}, largeScale: rapid.Bool().Draw(t, "mode")}

		holds := map[pb.Fact]bool{}
		for _, f := range o.Facts {
			holds[f] = true
		}
		want := !r.off && (p.largeScale || !r.large)
		for _, f := range r.when {
			want = want && holds[f]
		}
		for _, f := range r.unless {
			want = want && !holds[f]
		}
		one := len(r.anyOf) == 0
		for _, f := range r.anyOf {
			one = one || holds[f]
		}
		is := len(r.from) == 0
		for _, from := range r.from {
			is = is || from == role
		}
		require.Equal(t, want && one && is, len(p.fire(o, &pb.Member{Role: role})) == 1)
	})
}

func TestFlowsAndIssuersAreThoseOfTheScheme(t *testing.T) {
	p := builtIn()
	flows := map[pb.Flow]string{
		pb.Flow_FLOW_PEER: "operator port_company isac council", pb.Flow_FLOW_STATUS: "users", pb.Flow_FLOW_EXPERT: "expert",
		pb.Flow_FLOW_AUTHORITY: "port_authority regional_transport regional_development ministry cabinet_cyber cabinet_crisis secretariat police coast_guard privacy_commission incident_ministry disaster_ministry",
	}
	n := 0
	for flow, words := range flows {
		for _, role := range rolesOf(t, words) {
			require.Equal(t, flow, p.flows[role], role)
			n++
		}
	}
	require.Equal(t, len(pb.Role_name)-1, n)
	require.Len(t, p.flows, n)
	for _, role := range rolesOf(t, "operator port_company users") {
		require.False(t, p.issuers[role], role)
	}
	require.Len(t, p.issuers, n-3)
}

func TestAboveIsTheWayToThePort(t *testing.T) {
	p := &policy{communities: []community{{id: "a"}, {id: "b", parent: "a"}, {id: "c", parent: "b"}, {id: "d", parent: "a"}}}
	for id, want := range map[string][]string{"a": {"a"}, "b": {"b", "a"}, "c": {"c", "b", "a"}, "d": {"d", "a"}, "testport": {"testport"}} {
		require.Equal(t, want, p.above(id))
	}
}

func TestAtGivesWhatIsInForce(t *testing.T) {
	day := func(n int) time.Time { return tableDay.AddDate(0, 0, n) }
	rapid.Check(t, func(t *rapid.T) {
		p := new(policy)
		for i := range rapid.IntRange(0, 6).Draw(t, "rows") {
			var in period
			if from := rapid.IntRange(0, 5).Draw(t, "from"); from > 0 {
				in.from = day(from)
			}
			if to := rapid.IntRange(0, 5).Draw(t, "to"); to > 0 {
				in.to = day(to)
			}
			id := fmt.Sprint(i)
			p.routes = append(p.routes, route{id: id, period: in})
			p.duties = append(p.duties, duty{id: id, period: in})
			p.communities = append(p.communities, community{id: id, period: in})
		}
		before := slices.Clone(p.routes)
		now := day(rapid.IntRange(0, 6).Draw(t, "now"))
		var want []string
		for _, r := range p.routes {
			if (r.period.from.IsZero() || r.period.from.Compare(now) <= 0) && (r.period.to.IsZero() || now.Compare(r.period.to) < 0) {
				want = append(want, r.id)
			}
		}
		var routes, duties, communities []string
		q := p.at(now)
		for _, r := range q.routes {
			routes = append(routes, r.id)
		}
		for _, d := range q.duties {
			duties = append(duties, d.id)
		}
		for _, c := range q.communities {
			communities = append(communities, c.id)
		}
		require.Equal(t, want, routes)
		require.Equal(t, want, duties)
		require.Equal(t, want, communities)
		require.Equal(t, before, p.routes, "the policy itself never changes")
	})
}
