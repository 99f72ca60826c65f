package hub

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

func testMemberOf(id string, state pb.MemberState, communities ...string) *pb.Member {
	return &pb.Member{
		Id: id, Name: id + " の名", Role: pb.Role_ROLE_OPERATOR, State: state, Communities: withPort("testport", communities),
		Profile: &pb.Profile{Persons: []*pb.Person{{Id: "ciso", Name: "港 一郎"}, {Id: "desk", Name: "波止 花子"}}},
	}
}

// noRoutes is a policy without a row: only the label and the source decide.
func noRoutes() *policy { return &policy{version: "no-routes"} }

// testDirectory: a and b are operators, c and d are members of the port alone,
// e is invited, f revoked, g belongs to a community without a.
func testDirectory() *directory {
	d := newDirectory()
	d.port, d.revision, d.policy = "testport", 42, noRoutes()
	for _, m := range []*pb.Member{
		testMemberOf("a", pb.MemberState_MEMBER_STATE_ACTIVE, "ops"),
		testMemberOf("b", pb.MemberState_MEMBER_STATE_ACTIVE, "ops"),
		testMemberOf("c", pb.MemberState_MEMBER_STATE_ACTIVE),
		testMemberOf("d", pb.MemberState_MEMBER_STATE_ACTIVE),
		testMemberOf("e", pb.MemberState_MEMBER_STATE_INVITED, "ops"),
		testMemberOf("f", pb.MemberState_MEMBER_STATE_REVOKED, "ops"),
		testMemberOf("g", pb.MemberState_MEMBER_STATE_ACTIVE, "others"),
	} {
		d.members[m.GetId()] = m
	}
	return d
}

// decided writes a plan, or what stands against it, on one line.
func decided(t testing.TB, p *pb.Plan, bad []rpc.Violation) string {
	t.Helper()
	if len(bad) > 0 {
		require.Nil(t, p)
		return "! " + strings.Join(told(t, bad), ", ")
	}
	var all []string
	for _, c := range p.GetCopies() {
		to := c.GetMember()
		if len(c.GetPersons()) > 0 {
			to += "/" + strings.Join(c.GetPersons(), "+")
		}
		all = append(all, to+" "+c.GetGrounds()[0].GetRule())
	}
	return strings.Join(all, ", ")
}

func TestPlanIsTheTable(t *testing.T) {
	const clear, green, amber, strict, red = pb.TlpLabel_TLP_LABEL_CLEAR, pb.TlpLabel_TLP_LABEL_GREEN,
		pb.TlpLabel_TLP_LABEL_AMBER, pb.TlpLabel_TLP_LABEL_AMBER_STRICT, pb.TlpLabel_TLP_LABEL_RED
	for _, c := range []struct {
		label     pb.TlpLabel
		community string
		to        string
		want      string
	}{
		{clear, "", "", "b EVERY_MEMBER, c EVERY_MEMBER, d EVERY_MEMBER, g EVERY_MEMBER"},
		{clear, "", "c", "c ADDRESSED"},
		{clear, "", "g c b", "b ADDRESSED, c ADDRESSED, g ADDRESSED"},
		{clear, "", "a", "! recipients[0] RECIPIENT_IS_SOURCE"},
		{clear, "", "e", "! recipients[0] RECIPIENT_NOT_JOINED"},
		{clear, "", "f", "! recipients[0] RECIPIENT_UNKNOWN"},
		{clear, "", "nobody", "! recipients[0] RECIPIENT_UNKNOWN"},
		{green, "ops", "", "b COMMUNITY"},
		{green, "testport", "", "b COMMUNITY, c COMMUNITY, d COMMUNITY, g COMMUNITY"},
		{green, "others", "", "! community_id COMMUNITY_NOT_YOURS"},
		{green, "none", "", "! community_id COMMUNITY_UNKNOWN"},
		{green, "ops", "b", "b ADDRESSED"},
		{green, "ops", "c", "! recipients[0] RECIPIENT_OUTSIDE_LABEL"},
		{green, "ops", "b c", "! recipients[1] RECIPIENT_OUTSIDE_LABEL"},
		{green, "testport", "g", "g ADDRESSED"},
		{green, "others", "c", "! community_id COMMUNITY_NOT_YOURS, recipients[0] RECIPIENT_OUTSIDE_LABEL"},
		{green, "others", "g", "! community_id COMMUNITY_NOT_YOURS"},
		{green, "ops", "e", "! recipients[0] RECIPIENT_NOT_JOINED"},
		{amber, "", "b", "b ADDRESSED"},
		{amber, "", "d c b", "b ADDRESSED, c ADDRESSED, d ADDRESSED"},
		{amber, "", "a b e f nobody", "! recipients[0] RECIPIENT_IS_SOURCE, recipients[2] RECIPIENT_NOT_JOINED, recipients[3] RECIPIENT_UNKNOWN, recipients[4] RECIPIENT_UNKNOWN"},
		{strict, "", "c", "c ADDRESSED"},
		{strict, "", "g b", "b ADDRESSED, g ADDRESSED"},
		{strict, "", "f", "! recipients[0] RECIPIENT_UNKNOWN"},
		{red, "", "b/ciso", "b/ciso ADDRESSED"},
		{red, "", "c/ciso b/desk b/ciso", "b/ciso+desk ADDRESSED, c/ciso ADDRESSED"},
		{red, "", "b/nobody", "! recipients[0] PERSON_UNKNOWN"},
		{red, "", "b/ciso b/nobody", "! recipients[1] PERSON_UNKNOWN"},
		{red, "", "a/ciso", "! recipients[0] RECIPIENT_IS_SOURCE"},
		{red, "", "e/ciso", "! recipients[0] RECIPIENT_NOT_JOINED"},
		{red, "", "f/ciso", "! recipients[0] RECIPIENT_UNKNOWN"},
		// What check refuses already must not pass here either.
		{red, "", "b", "! recipients[0] RECIPIENT_OUTSIDE_LABEL"},
		{red, "", "", "! recipients RECIPIENTS_MISSING"},
		{amber, "", "", "! recipients RECIPIENTS_MISSING"},
		{strict, "", "", "! recipients RECIPIENTS_MISSING"},
		{0, "", "b", "! recipients[0] RECIPIENT_OUTSIDE_LABEL"},
		{0, "", "", "! recipients NOBODY_RECEIVES"},
		{6, "", "", "! recipients NOBODY_RECEIVES"},
		{257, "", "", "! recipients NOBODY_RECEIVES"},
		{257, "", "b", "! recipients[0] RECIPIENT_OUTSIDE_LABEL"},
		{-255, "", "", "! recipients NOBODY_RECEIVES"},
	} {
		r := &pb.Report{Tlp: c.label, CommunityId: c.community}
		for _, to := range strings.Fields(c.to) {
			member, person, _ := strings.Cut(to, "/")
			r.Recipients = append(r.Recipients, &pb.Recipient{Member: member, Person: person})
		}
		d := testDirectory()
		p, bad := plan(r.Outline(), "a", nil, worldAt(d, time.Now()))
		require.Equal(t, c.want, decided(t, p, bad), "%v %s to %q", c.label, c.community, c.to)
		for _, copied := range p.GetCopies() {
			require.Equal(t, uint64(42), p.GetDirectoryRevision())
			require.Equal(t, d.members[copied.GetMember()].GetName(), copied.GetName())
			require.False(t, copied.GetNamed(), "peers do not hear who it was")
			require.Equal(t, pb.Flow_FLOW_PEER, copied.GetFlow())
			require.Equal(t, "no-routes", p.GetPolicyVersion())
			require.Contains(t, copied.GetGrounds()[0].GetBasis(), tlp.Label(c.label).String())
		}
	}
}

func TestNobodyReceivesFromTheOnlyMember(t *testing.T) {
	d := newDirectory()
	d.port = "testport"
	d.members["a"] = testMemberOf("a", pb.MemberState_MEMBER_STATE_ACTIVE)
	p, bad := plan(&pb.Outline{Tlp: pb.TlpLabel_TLP_LABEL_CLEAR}, "a", nil, worldAt(d, time.Now()))
	require.Equal(t, "! recipients NOBODY_RECEIVES", decided(t, p, bad))
}

// scene is a random directory and a report in it.
type scene struct {
	dir    *directory
	source string
	report *pb.Report
}

// plan decides about a report in this scene, at one instant.
func (s scene) plan(r *pb.Report) (*pb.Plan, []rpc.Violation) {
	return plan(r.Outline(), s.source, nil, worldAt(s.dir, time.Unix(1_800_000_000, 0)))
}

var sceneMembers = []string{"a", "b", "c", "d", "e", "f"}

func drawScene(t *rapid.T) scene {
	d := newDirectory()
	d.port, d.revision, d.policy = "testport", 1, noRoutes()
	states := []pb.MemberState{pb.MemberState_MEMBER_STATE_ACTIVE, pb.MemberState_MEMBER_STATE_ACTIVE, pb.MemberState_MEMBER_STATE_INVITED, pb.MemberState_MEMBER_STATE_REVOKED}
	for _, id := range sceneMembers[:rapid.IntRange(1, len(sceneMembers)).Draw(t, "members")] {
		m := testMemberOf(id, rapid.SampledFrom(states).Draw(t, id), rapid.SliceOfDistinct(rapid.SampledFrom([]string{"x", "y"}), rapid.ID).Draw(t, id+" in")...)
		m.Profile.Persons = m.Profile.Persons[:rapid.IntRange(0, 2).Draw(t, id+" persons")]
		d.members[id] = m
	}
	d.members["a"].State = pb.MemberState_MEMBER_STATE_ACTIVE
	r := &pb.Report{Tlp: pb.TlpLabel(rapid.IntRange(1, 5).Draw(t, "label"))}
	label := tlp.Label(r.Tlp)
	if label == tlp.Green {
		r.CommunityId = rapid.SampledFrom([]string{"testport", "x", "y", "z"}).Draw(t, "community")
	}
	atLeast := 0
	if label >= tlp.Amber {
		atLeast = 1
	}
	to := rapid.SliceOfNDistinct(rapid.SampledFrom(append(slices.Clone(sceneMembers), "nobody")), atLeast, 4, rapid.ID).Draw(t, "to")
	for _, member := range to {
		if label != tlp.Red {
			r.Recipients = append(r.Recipients, &pb.Recipient{Member: member})
			continue
		}
		for _, person := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"ciso", "desk", "other"}), 1, 2, rapid.ID).Draw(t, "persons of "+member) {
			r.Recipients = append(r.Recipients, &pb.Recipient{Member: member, Person: person})
		}
	}
	return scene{dir: d, source: "a", report: r}
}

// oracle says in a word each what a member may have, by a table; plan works
// with facts and rules. The words: "-" nothing, "*" without being addressed,
// "to" when addressed, "person" when a person of it is named.
const oracle = `
         outside  in-community
CLEAR    *        *
GREEN    -        *
AMBER    to       to
STRICT   to       to
RED      person   person
`

func mayHave(r *pb.Report, m *pb.Member) string {
	rows := strings.Split(strings.TrimSpace(oracle), "\n")
	cells := strings.Fields(rows[r.GetTlp()])
	for _, c := range m.GetCommunities() {
		if c == r.GetCommunityId() {
			return cells[2]
		}
	}
	return cells[1]
}

// expect is the audience by the oracle; nil when the report must be refused.
func expect(w scene) map[string]bool {
	able := map[string]bool{}
	for id, m := range w.dir.members {
		able[id] = m.GetState() == pb.MemberState_MEMBER_STATE_ACTIVE && id != w.source
	}
	if w.report.GetTlp() == pb.TlpLabel_TLP_LABEL_GREEN && mayHave(w.report, w.dir.members[w.source]) != "*" {
		return nil
	}
	audience := map[string]bool{}
	for _, to := range w.report.GetRecipients() {
		if !able[to.GetMember()] {
			return nil
		}
		m := w.dir.members[to.GetMember()]
		switch mayHave(w.report, m) {
		case "-":
			return nil
		case "person":
			known := false
			for _, p := range m.GetProfile().GetPersons() {
				known = known || p.GetId() == to.GetPerson()
			}
			if !known {
				return nil
			}
		}
		audience[to.GetMember()] = true
	}
	if len(w.report.GetRecipients()) == 0 {
		for id, m := range w.dir.members {
			if able[id] && mayHave(w.report, m) == "*" {
				audience[id] = true
			}
		}
	}
	if len(audience) == 0 {
		return nil
	}
	return audience
}

func TestPlanGivesExactlyWhatTheOracleAllowsOrRefusesAloud(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawScene(t)
		p, bad := w.plan(w.report)
		want := expect(w)
		if want == nil {
			require.Nil(t, p)
			require.NotEmpty(t, bad, "never a silent drop")
			return
		}
		require.Empty(t, bad)
		got := map[string]bool{}
		for _, c := range p.GetCopies() {
			require.False(t, got[c.GetMember()], "one copy a member")
			got[c.GetMember()] = true
			named := map[string]bool{}
			for _, to := range w.report.GetRecipients() {
				if to.GetMember() == c.GetMember() && to.GetPerson() != "" {
					named[to.GetPerson()] = true
				}
			}
			require.Equal(t, slices.Sorted(maps.Keys(named)), c.GetPersons(), "the persons named, sorted")
		}
		require.Equal(t, want, got)
		require.True(t, slices.IsSortedFunc(p.GetCopies(), byMember))
		for range 5 {
			again, _ := w.plan(w.report)
			require.True(t, proto.Equal(p, again), "the same plan every time")
		}
	})
}

func TestAStricterLabelNeverAddsACopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawScene(t)
		before, bad := w.plan(w.report)
		if len(bad) > 0 {
			return
		}
		stricter := proto.CloneOf(w.report)
		stricter.Tlp = pb.TlpLabel(rapid.IntRange(int(w.report.GetTlp()), 5).Draw(t, "stricter"))
		after, _ := w.plan(stricter)
		for _, c := range after.GetCopies() {
			require.NotNil(t, copyFor(before, c.GetMember()), "%s gets a copy under the stricter label only", c.GetMember())
		}
	})
}

func TestRenamingMembersRenamesThePlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawScene(t)
		name := map[string]string{"nobody": "nobody"}
		for i, to := range rapid.Permutation(sceneMembers).Draw(t, "names") {
			name[sceneMembers[i]] = to
		}
		renamed := scene{dir: newDirectory(), source: name[w.source], report: proto.CloneOf(w.report)}
		renamed.dir.port, renamed.dir.revision, renamed.dir.policy = w.dir.port, w.dir.revision, w.dir.policy
		for id, m := range w.dir.members {
			other := proto.CloneOf(m)
			other.Id = name[id]
			renamed.dir.members[name[id]] = other
		}
		for _, to := range renamed.report.GetRecipients() {
			to.Member = name[to.GetMember()]
		}
		p, bad := w.plan(w.report)
		q, worse := renamed.plan(renamed.report)
		require.ElementsMatch(t, reasons(bad), reasons(worse), "the same fields for the same reasons")
		for _, c := range p.GetCopies() {
			c.Member = name[c.GetMember()]
		}
		slices.SortFunc(p.GetCopies(), byMember)
		require.True(t, proto.Equal(p, q), "%v\n%v", p, q)
	})
}

func TestEveryAddresseeThatDoesNotFitIsNamed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawScene(t)
		_, bad := w.plan(w.report)
		wrong := map[string]bool{}
		for i := range w.report.GetRecipients() {
			alone := proto.CloneOf(w.report)
			alone.Recipients = alone.Recipients[i : i+1]
			for _, v := range second(w.plan(alone)) {
				if v.Field == "recipients[0]" {
					wrong[fmt.Sprintf("recipients[%d]", i)] = true
				}
			}
		}
		for _, v := range bad {
			if v.Field != "community_id" && v.Field != "recipients" {
				require.True(t, wrong[v.Field], "%v", v)
				delete(wrong, v.Field)
			}
		}
		require.Empty(t, wrong, "told of some only")
	})
}

func second[A, B any](_ A, b B) B { return b }

func reasons(bad []rpc.Violation) (all []string) {
	for _, v := range bad {
		all = append(all, v.Field+" "+v.Reason)
	}
	return all
}

func byMember(a, b *pb.Copy) int { return strings.Compare(a.GetMember(), b.GetMember()) }

func TestARowThatNamesTheSourceGivesThePeerTheWholeReport(t *testing.T) {
	for _, is := range []identity{named, projected} {
		d := testDirectory()
		d.policy.routes = []route{{id: "X", to: []pb.Role{pb.Role_ROLE_OPERATOR}, identity: is, act: pb.Act_ACT_AUTO, obligation: pb.Obligation_OBLIGATION_MAY}}
		p, bad := plan(&pb.Outline{Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Recipients: []*pb.Recipient{{Member: "b"}}}, "a", nil, worldAt(d, time.Now()))
		require.Empty(t, bad)
		require.Len(t, p.GetCopies(), 4)
		for _, c := range p.GetCopies() {
			require.Equal(t, is == named, c.GetNamed())
			require.Equal(t, is == named, c.GetFlow() == pb.Flow_FLOW_AUTHORITY)
		}
	}
}
