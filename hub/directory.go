package hub

import (
	"cmp"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	pb "minato.example/proto/minato/v1"
)

// directory is who is at the port at one revision, and the policy that they
// have agreed on. It is never changed: apply returns the next one, so a
// decision and the revision it names belong together.
type directory struct {
	revision uint64
	port     string
	members  map[string]*pb.Member
	tokens   map[string]token // by public key
	starts   map[nodeID]start
	policy   *policy

	// pending are the changes that take effect later, the first one first.
	pending []pending
	// later is what at gave last.
	later atomic.Pointer[directory]
	// here is what present gave.
	here atomic.Pointer[[]*pb.Member]
}

// pending is a change of a member that has been decided and is not yet in
// force.
type pending struct {
	effective time.Time
	set       *pb.MemberSet
}

// nodeID names one node of one member.
type nodeID struct {
	member string
	number uint32
}

func (n nodeID) String() string { return fmt.Sprintf("%s/%d", n.member, n.number) }

// start is where a node's streams begin: it gets what was decided after it
// joined.
type start struct{ live, exercise uint64 }

// token is what the hub keeps of an invitation: never the token itself.
type token struct {
	member string
	expire time.Time
	state  tokenState
}

type tokenState int

const (
	tokenOpen tokenState = iota
	tokenUsed
	tokenBurnt
)

func newDirectory() *directory {
	return &directory{members: map[string]*pb.Member{}, tokens: map[string]token{}, starts: map[nodeID]start{}, policy: builtIn()}
}

// at is the directory with every change that takes effect at t or before. What
// is in force at t depends on the revision and on t alone, whenever it is asked.
func (d *directory) at(t time.Time) *directory {
	due := d.due(t)
	if due == 0 {
		return d
	}
	if last := d.later.Load(); last != nil && len(last.pending) == len(d.pending)-due {
		return last
	}
	next := d.copy()
	for _, p := range d.pending[:due] {
		next.setMember(p.set)
	}
	next.pending = d.pending[due:]
	d.later.Store(next)
	return next
}

// due counts the changes that have taken effect at t.
func (d *directory) due(t time.Time) int {
	n := 0
	for n < len(d.pending) && !d.pending[n].effective.After(t) {
		n++
	}
	return n
}

func (d *directory) copy() *directory {
	return &directory{
		revision: d.revision, port: d.port, policy: d.policy, pending: d.pending,
		members: maps.Clone(d.members), tokens: maps.Clone(d.tokens), starts: maps.Clone(d.starts),
	}
}

// apply returns the directory after one change. What has taken effect before
// that change goes first, so that a directory read from the journal is the one
// that stood when the change was made.
func (d *directory) apply(revision uint64, change *pb.DirectoryChange) (*directory, error) {
	next := d.at(change.GetChangeTime().AsTime()).copy()
	next.revision = revision
	switch c := change.GetChange().(type) {
	case *pb.DirectoryChange_Founded:
		next.port = c.Founded.GetPortId()
	case *pb.DirectoryChange_Invited:
		m := next.edit(c.Invited.GetMember())
		m.Name, m.Role = c.Invited.GetName(), c.Invited.GetRole()
		m.Communities = withPort(d.port, c.Invited.GetCommunities())
		if m.GetState() != pb.MemberState_MEMBER_STATE_ACTIVE {
			m.State = pb.MemberState_MEMBER_STATE_INVITED
		}
		next.tokens[string(c.Invited.GetTokenKey())] = token{member: m.GetId(), expire: c.Invited.GetExpireTime().AsTime()}
	case *pb.DirectoryChange_Joined:
		m := next.edit(c.Joined.GetMember())
		m.State = pb.MemberState_MEMBER_STATE_ACTIVE
		m.Nodes = append(m.Nodes, &pb.Node{
			Number: c.Joined.GetNode(), SigningKey: c.Joined.GetSigningKey(),
			JoinTime: change.GetChangeTime(), State: pb.MemberState_MEMBER_STATE_ACTIVE,
		})
		next.starts[nodeID{m.GetId(), c.Joined.GetNode()}] = start{c.Joined.GetLivePosition(), c.Joined.GetExercisePosition()}
		next.setToken(c.Joined.GetTokenKey(), tokenUsed)
	case *pb.DirectoryChange_TokenBurnt:
		next.setToken(c.TokenBurnt.GetTokenKey(), tokenBurnt)
	case *pb.DirectoryChange_Revoked:
		m := next.edit(c.Revoked.GetMember())
		m.State = pb.MemberState_MEMBER_STATE_REVOKED
		m.Keys = nil
		for _, n := range m.Nodes {
			n.State = pb.MemberState_MEMBER_STATE_REVOKED
		}
		for key, t := range next.tokens {
			if t.member == m.GetId() && t.state == tokenOpen {
				next.setToken([]byte(key), tokenBurnt)
			}
		}
	case *pb.DirectoryChange_ProfileSet:
		m := next.edit(c.ProfileSet.GetMember())
		m.Profile = c.ProfileSet.GetProfile()
		m.Keys = slices.DeleteFunc(m.Keys, func(k *pb.SignedKey) bool {
			_, ok := person(m, k.GetEntry().GetPerson())
			return k.GetEntry().GetPerson() != "" && !ok
		})
	case *pb.DirectoryChange_MemberSet:
		effective := change.GetEffectiveTime()
		if effective == nil || !effective.AsTime().After(change.GetChangeTime().AsTime()) {
			next.setMember(c.MemberSet)
			break
		}
		next.postpone(pending{effective.AsTime(), c.MemberSet})
	case *pb.DirectoryChange_KeySet:
		next.setKey(c.KeySet.GetKey())
	case *pb.DirectoryChange_PolicySet:
		p, err := policyOf(c.PolicySet.GetPolicy())
		if err != nil {
			return nil, fmt.Errorf("directory revision %d: %w", revision, err)
		}
		next.policy = p
	default:
		return nil, fmt.Errorf("directory: unknown change %T at revision %d", c, revision)
	}
	return next, nil
}

// present is the members that may send and receive, by id.
func (d *directory) present() []*pb.Member {
	if here := d.here.Load(); here != nil {
		return *here
	}
	here := slices.DeleteFunc(d.sorted(), func(m *pb.Member) bool { return m.GetState() != pb.MemberState_MEMBER_STATE_ACTIVE })
	d.here.Store(&here)
	return here
}

// edit gives a member of its own to a directory that is being made.
func (d *directory) edit(id string) *pb.Member {
	m := &pb.Member{Id: id}
	if old, ok := d.members[id]; ok {
		m = proto.CloneOf(old)
	}
	d.members[id] = m
	return m
}

func (d *directory) setToken(key []byte, s tokenState) {
	if t, ok := d.tokens[string(key)]; ok {
		t.state = s
		d.tokens[string(key)] = t
	}
}

// setMember replaces what the administrator says of a member.
func (d *directory) setMember(set *pb.MemberSet) {
	m := d.edit(set.GetMember())
	m.Name, m.Role, m.Nda = set.GetName(), set.GetRole(), set.GetNda()
	m.Communities = withPort(d.port, set.GetCommunities())
	m.Jurisdictions, m.Designations = set.GetJurisdictions(), set.GetDesignations()
	m.SecrecyRegimes, m.Clients = set.GetSecrecyRegimes(), set.GetClients()
}

// postpone keeps a change until it takes effect. Of two for one time, the one
// decided last counts.
func (d *directory) postpone(p pending) {
	at, _ := slices.BinarySearchFunc(d.pending, p.effective, func(q pending, t time.Time) int {
		return cmp.Or(q.effective.Compare(t), -1) // after those of the same time
	})
	d.pending = slices.Insert(slices.Clone(d.pending), at, p)
}

// setKey puts a key in the place of the former one of the same person and node.
func (d *directory) setKey(k *pb.SignedKey) {
	m := d.edit(k.GetEntry().GetMember())
	if i := keyIndex(m, k.GetEntry()); i >= 0 {
		m.Keys[i] = k
		return
	}
	m.Keys = append(m.Keys, k)
}

// keyIndex is where a member has the key of the same person and node, or -1.
func keyIndex(m *pb.Member, e *pb.KeyEntry) int {
	return slices.IndexFunc(m.GetKeys(), func(k *pb.SignedKey) bool {
		return k.GetEntry().GetPerson() == e.GetPerson() && k.GetEntry().GetNode() == e.GetNode()
	})
}

// policyOf reads the policy in an envelope whose signature has been verified.
func policyOf(env *pb.Envelope) (*policy, error) {
	p, err := parsePolicy("policy.toml", env.GetPayload())
	if err != nil {
		return nil, err
	}
	for _, s := range env.GetSignatures() {
		p.signer = s.GetKeyId()
	}
	return p, nil
}

// withPort is a member's communities, sorted: the port's own is always there.
func withPort(port string, communities []string) []string {
	all := append([]string{port}, communities...)
	slices.Sort(all)
	return slices.Compact(all)
}

// active is the member if it may send and receive.
func (d *directory) active(id string) (*pb.Member, bool) {
	m, ok := d.members[id]
	return m, ok && m.GetState() == pb.MemberState_MEMBER_STATE_ACTIVE
}

// signingKey is the key of a node that may send and receive.
func (d *directory) signingKey(id nodeID) (ed25519.PublicKey, bool) {
	m, ok := d.active(id.member)
	if !ok {
		return nil, false
	}
	for _, n := range m.GetNodes() {
		if n.GetNumber() == id.number && n.GetState() == pb.MemberState_MEMBER_STATE_ACTIVE {
			return n.GetSigningKey(), true
		}
	}
	return nil, false
}

// sorted is all members by id.
func (d *directory) sorted() []*pb.Member {
	return slices.SortedFunc(maps.Values(d.members), func(a, b *pb.Member) int {
		if a.GetId() < b.GetId() {
			return -1
		}
		return 1
	})
}

// hasCommunity reports whether anybody belongs to the community.
func (d *directory) hasCommunity(id string) bool {
	for _, m := range d.members {
		if slices.Contains(m.GetCommunities(), id) {
			return true
		}
	}
	return false
}

// person is a named person of a member.
func person(m *pb.Member, id string) (*pb.Person, bool) {
	for _, p := range m.GetProfile().GetPersons() {
		if p.GetId() == id {
			return p, true
		}
	}
	return nil, false
}
