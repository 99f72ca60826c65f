package hub

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pb "minato.example/proto/minato/v1"
)

// directory is who is at the port at one revision. It is never changed: apply
// returns the next one, so a decision and the revision it names belong
// together.
type directory struct {
	revision uint64
	port     string
	members  map[string]*pb.Member
	tokens   map[string]token // by public key
	starts   map[nodeID]start
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
	return &directory{members: map[string]*pb.Member{}, tokens: map[string]token{}, starts: map[nodeID]start{}}
}

// apply returns the directory after one change.
func (d *directory) apply(revision uint64, change *pb.DirectoryChange) (*directory, error) {
	next := &directory{
		revision: revision, port: d.port,
		members: maps.Clone(d.members), tokens: maps.Clone(d.tokens), starts: maps.Clone(d.starts),
	}
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
		for _, n := range m.Nodes {
			n.State = pb.MemberState_MEMBER_STATE_REVOKED
		}
		for key, t := range next.tokens {
			if t.member == m.GetId() && t.state == tokenOpen {
				next.setToken([]byte(key), tokenBurnt)
			}
		}
	case *pb.DirectoryChange_ProfileSet:
		next.edit(c.ProfileSet.GetMember()).Profile = c.ProfileSet.GetProfile()
	default:
		return nil, fmt.Errorf("directory: unknown change %T at revision %d", c, revision)
	}
	return next, nil
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
