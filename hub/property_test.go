package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"minato.example/anonymizer"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// dice throws a number from 0 to n-1. The same properties run on dice of rapid,
// which shrinks what fails, and on a plain generator, which is fast enough for
// a million decisions.
type dice func(n int) int

func (d dice) chance(oneIn int) bool { return d(oneIn) == 0 }

func oneOf[T any](d dice, all ...T) T { return all[d(len(all))] }

// port is a random port and a report in it.
type port struct {
	dir     *directory
	source  string
	outline *pb.Outline
	parents []*pb.Handling
	at      world // of dir
}

// decisions counts what was decided, games the ports, planned those whose
// report was not refused.
var decisions, games, planned atomic.Int64

func (p port) plan() (*pb.Plan, []rpc.Violation) {
	decisions.Add(1)
	return plan(p.outline, p.source, p.parents, p.at)
}

var (
	portIDs         = []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	portRoles       = []pb.Role{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18}
	portCommunities = []string{"terminals", "tos", "carriers"}
)

func throwMember(d dice, id string) *pb.Member {
	m := &pb.Member{
		Id: id, Name: id, Role: oneOf(d, portRoles...), State: pb.MemberState_MEMBER_STATE_ACTIVE, Communities: []string{"port"},
		Profile: &pb.Profile{Persons: []*pb.Person{{Id: "ciso", Name: "港"}, {Id: "desk", Name: "波止"}}},
	}
	if d.chance(2) {
		m.Role = pb.Role_ROLE_OPERATOR
	}
	if d.chance(8) {
		m.State = oneOf(d, pb.MemberState_MEMBER_STATE_INVITED, pb.MemberState_MEMBER_STATE_REVOKED)
	}
	for _, c := range portCommunities {
		if d.chance(3) {
			m.Communities = append(m.Communities, c)
		}
	}
	if d.chance(4) {
		m.Jurisdictions = []string{oneOf(d, "port", "elsewhere")}
	}
	m.Nda = d.chance(2)
	if d.chance(4) {
		m.Designations = []string{"special-infrastructure-operator"}
	}
	if d.chance(2) {
		m.SecrecyRegimes = append(m.SecrecyRegimes, oneOf(d, council, contract))
	}
	if d.chance(3) {
		m.Clients = []string{oneOf(d, portIDs...)}
	}
	return m
}

func throwPort(d dice) port {
	p := port{dir: newDirectory(), source: "a", outline: &pb.Outline{Lane: pb.Lane_LANE_LIVE, CreateTime: oracleStamp, SecrecyRegime: noSecrecy}}
	p.dir.port, p.dir.policy = "port", oraclePolicy()
	if d.chance(4) {
		changed := *p.dir.policy
		changed.largeScale, p.dir.policy = true, &changed
	}
	for _, id := range portIDs[:2+d(len(portIDs)-2)] {
		p.dir.members[id] = throwMember(d, id)
	}
	p.dir.members["a"].State = pb.MemberState_MEMBER_STATE_ACTIVE
	p.at = worldAt(p.dir, oracleNow)
	o := p.outline
	o.Tlp = pb.TlpLabel(1 + d(5))
	if o.Tlp == pb.TlpLabel_TLP_LABEL_GREEN {
		o.CommunityId = oneOf(d, append(portCommunities, "port", "port")...)
	}
	if o.Tlp >= pb.TlpLabel_TLP_LABEL_AMBER || d.chance(2) {
		for _, id := range portIDs[1:] {
			if d.chance(3) {
				o.Recipients = append(o.Recipients, p.recipient(d, id))
			}
		}
	}
	for f := pb.Fact_FACT_BUSINESS_IMPACT; f <= pb.Fact_FACT_PEER_DAMAGE; f++ {
		if f != pb.Fact_FACT_SECRETARIAT_ANON && d.chance(4) {
			o.Facts = append(o.Facts, f)
		}
	}
	if d.chance(3) {
		o.Restrictions = &pb.Restrictions{NoCopy: d.chance(3), NoExport: d.chance(3), NoDistribution: d.chance(3), ChathamHouse: d.chance(3)}
	}
	if d.chance(6) {
		o.SecrecyRegime = oneOf(d, council, contract)
	}
	if d.chance(3) {
		o.OnwardPermissions = []*pb.OnwardPermission{{By: oneOf(d, "b", "c", "operator", "ministry"), To: oneOf(d, "d", "e", "port_authority", "regional_transport")}}
	}
	if d.chance(4) {
		o.DerivedFrom = []string{newID()}
		p.parents = []*pb.Handling{{Tlp: pb.TlpLabel(1 + d(int(o.Tlp))), CommunityId: "port", SecrecyRegime: noSecrecy, Restrictions: &pb.Restrictions{NoExport: true}}}
	}
	return p
}

func (p port) recipient(d dice, id string) *pb.Recipient {
	r := &pb.Recipient{Member: id}
	if p.outline.Tlp == pb.TlpLabel_TLP_LABEL_RED {
		r.Person = oneOf(d, "ciso", "desk")
	}
	return r
}

// with is the same port with another report.
func (p port) with(change func(*pb.Outline)) port {
	p.outline = proto.CloneOf(p.outline)
	change(p.outline)
	return p
}

// among is the same report among other members.
func (p port) among(change func(*directory)) port {
	d := p.dir.copy()
	change(d)
	p.dir, p.at = d, worldAt(d, oracleNow)
	return p
}

// audience writes copies so that they can be compared: who, which persons, what
// way, named or not, by which rules.
func audience(p *pb.Plan, but string) (all []string) {
	for _, c := range p.GetCopies() {
		if c.GetMember() != but {
			all = append(all, inShort(c))
		}
	}
	return all
}

func inShort(c *pb.Copy) string {
	var rules []string
	for _, g := range c.GetGrounds() {
		rules = append(rules, g.GetRule())
	}
	return fmt.Sprint(c.GetMember(), c.GetPersons(), c.GetFlow(), c.GetNamed(), rules)
}

// holdsEverything is every property of a decision and of its change when the
// report or the port changes.
func holdsEverything(t require.TestingT, d dice) {
	p := throwPort(d)
	games.Add(1)
	before, bad := p.plan()
	require.Equal(t, before == nil, len(bad) > 0, "a plan or a reason, never both or neither")

	again, badAgain := p.plan()
	require.True(t, proto.Equal(before, again), "the same question has the same answer")
	require.Equal(t, bad, badAgain)

	drill, badDrill := p.with(func(o *pb.Outline) { o.Lane = pb.Lane_LANE_EXERCISE }).plan()
	require.True(t, proto.Equal(before, drill), "an exercise differs in its lane alone")
	require.Equal(t, bad, badDrill)

	shuffled, badShuffled := p.with(func(o *pb.Outline) {
		for i := len(o.Recipients) - 1; i > 0; i-- {
			j := d(i + 1)
			o.Recipients[i], o.Recipients[j] = o.Recipients[j], o.Recipients[i]
		}
	}).plan()
	require.True(t, proto.Equal(before, shuffled), "in whatever order the recipients stand")
	require.Equal(t, reasonsOf(bad), reasonsOf(badShuffled))

	renamed(t, d, p, before, bad)
	if before == nil {
		return
	}
	planned.Add(1)
	nobodyOutside(t, p, before)
	tightened(t, d, p, before)
	restrictedMore(t, p, before)
	joinedBy(t, d, p, before)
	leftBy(t, d, p, before)
	withAnotherRow(t, d, p, before)
	passedOn(t, d, p, before)
}

// nobodyOutside: each copy is for an active member other than the source, whom
// the label reaches.
func nobodyOutside(t require.TestingT, p port, plan *pb.Plan) {
	seen := map[string]bool{}
	for _, c := range plan.GetCopies() {
		m := p.dir.members[c.GetMember()]
		require.Equal(t, pb.MemberState_MEMBER_STATE_ACTIVE, m.GetState())
		require.NotEqual(t, p.source, c.GetMember())
		require.False(t, seen[c.GetMember()], "one copy a member")
		seen[c.GetMember()] = true
		require.NotEmpty(t, c.GetGrounds(), "every copy has a reason")
		reachedBy(t, p, m, c)
	}
	require.True(t, slices.IsSortedFunc(plan.GetCopies(), byMember))
}

// reachedBy: FIRST's audience, for those who are addressed or named by a rule.
func reachedBy(t require.TestingT, p port, m *pb.Member, c *pb.Copy) {
	switch p.outline.GetTlp() {
	case pb.TlpLabel_TLP_LABEL_GREEN:
		in := p.outline.GetCommunityId() == "port" || slices.Contains(m.GetCommunities(), p.outline.GetCommunityId()) ||
			p.outline.GetCommunityId() == "terminals" && slices.Contains(m.GetCommunities(), "tos")
		require.True(t, in, "%s is outside of %s", m.GetId(), p.outline.GetCommunityId())
	case pb.TlpLabel_TLP_LABEL_RED:
		require.NotEmpty(t, c.GetPersons())
	}
	if s := p.outline.GetSecrecyRegime(); s != noSecrecy {
		require.Contains(t, m.GetSecrecyRegimes(), s)
	}
}

// tightened: a stricter label gives no copy that the looser one did not, but to
// whom a rule names and the looser label left out aloud: under TLP:AMBER it
// counts as addressed, under TLP:GREEN it has to be in the community.
func tightened(t require.TestingT, d dice, p port, before *pb.Plan) {
	label := p.outline.GetTlp()
	if label == pb.TlpLabel_TLP_LABEL_RED {
		return
	}
	after, _ := p.with(func(o *pb.Outline) { o.Tlp = label + 1 + pb.TlpLabel(d(int(pb.TlpLabel_TLP_LABEL_RED-label))) }).plan()
	for _, c := range after.GetCopies() {
		leftOutAloud := label == pb.TlpLabel_TLP_LABEL_GREEN && slices.ContainsFunc(before.GetOmissions(), func(o *pb.Omission) bool {
			return o.GetMember() == c.GetMember() && o.GetReason() == "OUTSIDE_LABEL"
		})
		require.True(t, copyFor(before, c.GetMember()) != nil || leftOutAloud, "%s has a copy under the stricter label only", c.GetMember())
	}
}

// restrictedMore: a further restriction gives nobody a copy or more of one.
func restrictedMore(t require.TestingT, p port, before *pb.Plan) {
	for _, add := range []func(*pb.Restrictions){
		func(r *pb.Restrictions) { r.NoCopy = true }, func(r *pb.Restrictions) { r.NoExport = true }, func(r *pb.Restrictions) { r.ChathamHouse = true },
		func(r *pb.Restrictions) { r.NoDistribution = true }, func(r *pb.Restrictions) { r.ExpireTime = timestamppb.New(oracleNow.Add(1)) },
	} {
		after, _ := p.with(func(o *pb.Outline) {
			if o.Restrictions == nil {
				o.Restrictions = &pb.Restrictions{}
			}
			add(o.Restrictions)
		}).plan()
		for _, c := range after.GetCopies() {
			was := copyFor(before, c.GetMember())
			require.NotNil(t, was, "%s has a copy under the restriction only", c.GetMember())
			require.Equal(t, inShort(was), inShort(c))
		}
	}
	after, _ := p.with(func(o *pb.Outline) {
		if o.SecrecyRegime == noSecrecy {
			o.SecrecyRegime = council
		}
	}).plan()
	for _, c := range after.GetCopies() {
		require.NotNil(t, copyFor(before, c.GetMember()), "%s has a copy under a duty of secrecy only", c.GetMember())
	}
}

// joinedBy: a member that joins may get a copy, and changes none.
func joinedBy(t require.TestingT, d dice, p port, before *pb.Plan) {
	newcomer := throwMember(d, "newcomer")
	newcomer.Role = pb.Role_ROLE_OPERATOR // an office may be one that has to be told
	after, bad := p.among(func(dir *directory) { dir.members["newcomer"] = newcomer }).plan()
	require.Empty(t, bad)
	require.Equal(t, audience(before, ""), audience(after, "newcomer"))
}

// leftBy: a member that is gone takes its own copy away, and changes none.
func leftBy(t require.TestingT, d dice, p port, before *pb.Plan) {
	gone := oneOf(d, portIDs[1:]...)
	if slices.ContainsFunc(p.outline.GetRecipients(), func(r *pb.Recipient) bool { return r.GetMember() == gone }) {
		return // addressing it is refused then
	}
	after, bad := p.among(func(dir *directory) { delete(dir.members, gone) }).plan()
	for _, v := range bad {
		// It was the only one, or the one that may pass it on to whom it must reach.
		require.Contains(t, []string{"NOBODY_RECEIVES", "RECIPIENTS_MISSING", "MANDATORY_OUTSIDE_LABEL"}, v.Reason)
	}
	if len(bad) == 0 {
		require.Equal(t, audience(before, gone), audience(after, ""))
	}
}

// withAnotherRow: rows are independent: one more takes nobody's copy away, and
// gives none beyond the label.
func withAnotherRow(t require.TestingT, d dice, p port, before *pb.Plan) {
	r := route{
		id: "X1", to: []pb.Role{oneOf(d, portRoles...), oneOf(d, portRoles...)}, identity: oneOf(d, named, projected),
		obligation: pb.Obligation(1 + d(5)), act: pb.Act(1 + d(4)), near: d.chance(2), by: oneOf(d, portRoles...), sentence: "x",
	}
	if d.chance(2) {
		r.when = []pb.Fact{pb.Fact(1 + d(len(pb.Fact_name)-1))}
	}
	more := p.among(func(dir *directory) {
		changed := *dir.policy
		changed.routes = slices.Insert(slices.Clone(changed.routes), d(len(changed.routes)+1), r)
		dir.policy = &changed
	})
	after, bad := more.plan()
	for _, v := range bad {
		require.Equal(t, "MANDATORY_OUTSIDE_LABEL", v.Reason)
	}
	if len(bad) > 0 {
		return
	}
	for _, c := range before.GetCopies() {
		now := copyFor(after, c.GetMember())
		require.NotNil(t, now, "%s has lost its copy", c.GetMember())
		require.Equal(t, c.GetPersons(), now.GetPersons())
	}
	nobodyOutside(t, more, after)
}

// renamed: other ids of the same members give the same plan under other ids.
func renamed(t require.TestingT, d dice, p port, before *pb.Plan, bad []rpc.Violation) {
	if !d.chance(4) {
		return
	}
	ids, name := slices.Clone(portIDs), map[string]string{}
	for i := len(ids) - 1; i > 0; i-- {
		j := d(i + 1)
		ids[i], ids[j] = ids[j], ids[i]
	}
	for i, id := range portIDs {
		name[id] = ids[i]
	}
	call := func(id string) string {
		if other, ok := name[id]; ok {
			return other
		}
		return id
	}
	q := p.with(func(o *pb.Outline) {
		for _, r := range o.Recipients {
			r.Member = call(r.Member)
		}
		for _, onward := range o.OnwardPermissions {
			onward.By, onward.To = call(onward.By), call(onward.To)
		}
	}).among(func(dir *directory) {
		clear(dir.members)
		for id, m := range p.dir.members {
			other := proto.CloneOf(m)
			other.Id, other.Name = call(id), call(id)
			for i, c := range other.Clients {
				other.Clients[i] = call(c)
			}
			dir.members[other.Id] = other
		}
	})
	q.source = call(p.source)
	after, worse := q.plan()
	require.Equal(t, reasonsOf(bad), reasonsOf(worse))
	var want []string
	for _, c := range before.GetCopies() {
		c = proto.CloneOf(c)
		c.Member = call(c.Member)
		want = append(want, inShort(c))
	}
	require.ElementsMatch(t, want, audience(after, ""))
}

// passedOn: what a holder passes on goes to active members that had none, other
// than the source, and names the source only when the holder's copy does.
func passedOn(t require.TestingT, d dice, p port, before *pb.Plan) {
	held := oneOf(d, before.GetCopies()...)
	to := []*pb.Recipient{p.recipient(d, oneOf(d, portIDs...)), p.recipient(d, oneOf(d, portIDs...))}
	had := func(r *pb.Recipient) bool { return copyFor(before, r.GetMember()) != nil }
	decisions.Add(1)
	x, bad := onward(p.outline, before.GetHandling(), p.dir.members[p.source], p.dir.members[held.GetMember()], held, to, had, p.at)
	require.Equal(t, x == nil, len(bad) > 0)
	for _, c := range x.GetCopies() {
		require.Equal(t, pb.MemberState_MEMBER_STATE_ACTIVE, p.dir.members[c.GetMember()].GetState())
		require.Nil(t, copyFor(before, c.GetMember()))
		require.Equal(t, held.GetMember(), c.GetForwardedBy())
		require.False(t, c.GetNamed() && !held.GetNamed(), "a name that the holder does not know")
		require.Less(t, p.outline.GetTlp(), pb.TlpLabel_TLP_LABEL_AMBER_STRICT)
		require.Equal(t, noSecrecy, before.GetHandling().GetSecrecyRegime())
	}
}

func TestPropertiesOfDecisionsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		holdsEverything(t, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "dice") })
	})
}

func TestPropertiesHoldForAMillionDecisions(t *testing.T) {
	const want = 1_000_000 / everyNthWorld
	begin := decisions.Load()
	var wg sync.WaitGroup
	var failed atomic.Bool
	for stream := range uint64(2) {
		wg.Go(func() {
			for game := uint64(0); decisions.Load()-begin < want && !failed.Load(); game++ {
				r := rand.New(rand.NewPCG(game, stream))
				func() {
					reported := &fatal{}
					defer func() {
						if recover() != nil {
							failed.Store(true)
							t.Errorf("game %d of stream %d:\n%s", game, stream, reported.what)
						}
					}()
					holdsEverything(reported, r.IntN)
				}()
			}
		})
	}
	wg.Wait()
	if !t.Failed() {
		require.GreaterOrEqual(t, decisions.Load()-begin, int64(want))
		require.Greater(t, planned.Load(), games.Load()/5, "most properties say nothing about what is refused")
		t.Logf("%d decisions about %d ports, %d of them plans", decisions.Load()-begin, games.Load(), planned.Load())
	}
}

// fatal collects what a property says and ends it: t.FailNow may not be called
// from another goroutine.
type fatal struct{ what string }

func (f *fatal) Errorf(format string, args ...any) { f.what += fmt.Sprintf(format, args...) }
func (f *fatal) FailNow()                          { panic(f) }

// canaries sets every field of a report to a text that names the field.
func canaries() *pb.Report {
	r := fullReport()
	mark(r.ProtoReflect(), "")
	return r
}

func mark(m protoreflect.Message, path string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := strings.TrimPrefix(path+"."+string(f.Name()), ".")
		switch {
		case f.Kind() == protoreflect.StringKind && f.IsList():
			v.List().Set(0, protoreflect.ValueOfString("<"+name+">"))
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString("<"+name+">"))
		case f.Kind() == protoreflect.MessageKind && f.IsList():
			for i := range v.List().Len() {
				mark(v.List().Get(i).Message(), name)
			}
		case f.Kind() == protoreflect.MessageKind:
			mark(v.Message(), name)
		}
		return true
	})
}

// leavesOf is every value of a report by its path.
func leavesOf(m protoreflect.Message, path string, all map[string][]string) map[string][]string {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := strings.TrimPrefix(path+"."+string(f.Name()), ".")
		values := []protoreflect.Value{v}
		if f.IsList() {
			values = nil
			for i := range v.List().Len() {
				values = append(values, v.List().Get(i))
			}
		}
		for _, v := range values {
			if f.Kind() == protoreflect.MessageKind {
				leavesOf(v.Message(), name, all)
			} else {
				all[name] = append(all[name], v.String())
			}
		}
		return true
	})
	return all
}

func TestACopyThatIsPassedOnHoldsNoFieldThatTheHoldersLacks(t *testing.T) {
	flows := append([]pb.Flow{pb.Flow_FLOW_AUTHORITY}, anonymizer.Flows...)
	compared := 0
	for choice := range 32 {
		r := canaries()
		r.AttackTechnical.StixBundle = nil
		r.Kind = map[bool]pb.Kind{false: pb.Kind_KIND_INCIDENT, true: pb.Kind_KIND_NOTICE}[choice&1 != 0]
		r.Consents = &pb.Consents{PeerNamed: choice&2 != 0, PeerDamage: choice&4 != 0, ExpertShare: choice&8 != 0}
		r.Attachments[0].Sanitised = choice&16 != 0
		for _, holder := range flows {
			has, err := anonymizer.Project(r, holder, nil)
			require.NoError(t, err)
			mine := leavesOf(has.Report.ProtoReflect(), "", map[string][]string{})
			for _, further := range flows {
				gets, err := anonymizer.Project(has.Report, further, nil)
				require.NoError(t, err)
				for path, values := range leavesOf(gets.Report.ProtoReflect(), "", map[string][]string{}) {
					compared++
					require.NotEmpty(t, mine[path], "%v passed on as %v holds %s", holder, further, path)
					if coarser := strings.Contains(path, "time.") || strings.HasSuffix(path, ".precision") || strings.HasSuffix(path, ".note"); !coarser {
						for _, v := range values {
							require.Contains(t, mine[path], v, "%v passed on as %v: %s", holder, further, path)
						}
					}
				}
			}
		}
	}
	require.Greater(t, compared, 10_000)
}
