package hub

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
)

func tokenKey(n byte) []byte {
	key := make([]byte, ed25519.PublicKeySize)
	key[0] = n
	return key
}

func invited(member string, token byte, expire time.Time, communities ...string) *pb.DirectoryChange {
	return &pb.DirectoryChange{Change: &pb.DirectoryChange_Invited{Invited: &pb.Invited{
		Member: member, Name: member + " の名", Role: pb.Role_ROLE_OPERATOR, Communities: communities,
		TokenKey: tokenKey(token), ExpireTime: timestamppb.New(expire),
	}}}
}

func joined(member string, node uint32, token byte) *pb.DirectoryChange {
	return &pb.DirectoryChange{ChangeTime: timestamppb.Now(), Change: &pb.DirectoryChange_Joined{Joined: &pb.Joined{
		Member: member, Node: node, TokenKey: tokenKey(token), SigningKey: tokenKey(100 + token), LivePosition: 7, ExercisePosition: 3,
	}}}
}

func revoked(member string) *pb.DirectoryChange {
	return &pb.DirectoryChange{Change: &pb.DirectoryChange_Revoked{Revoked: &pb.Revoked{Member: member}}}
}

// after applies changes to a fresh directory and keeps every revision.
func after(t testing.TB, changes ...*pb.DirectoryChange) (all []*directory) {
	t.Helper()
	d := newDirectory()
	changes = append([]*pb.DirectoryChange{{Change: &pb.DirectoryChange_Founded{Founded: &pb.Founded{PortId: "testport"}}}}, changes...)
	for i, c := range changes {
		next, err := d.apply(uint64(i+1), c)
		require.NoError(t, err)
		d, all = next, append(all, next)
	}
	return all
}

func last(all []*directory) *directory { return all[len(all)-1] }

func TestAnInvitedMemberMayNeitherSendNorReceive(t *testing.T) {
	d := last(after(t, invited("a", 1, time.Now().Add(time.Hour), "ops", "abc", "ops")))
	require.Equal(t, uint64(2), d.revision)
	require.Equal(t, "testport", d.port)
	require.Equal(t, []string{"abc", "ops", "testport"}, d.members["a"].GetCommunities(), "sorted, once each, the port's own among them")
	_, ok := d.active("a")
	require.False(t, ok)
	_, ok = d.signingKey(nodeID{"a", 1})
	require.False(t, ok)
	_, err := openToken(d, tokenKey(1))
	require.NoError(t, err)
}

func TestAJoinedNodeHasItsKeyAndStart(t *testing.T) {
	d := last(after(t, invited("a", 1, time.Now().Add(time.Hour)), joined("a", 1, 1)))
	_, ok := d.active("a")
	require.True(t, ok)
	key, ok := d.signingKey(nodeID{"a", 1})
	require.True(t, ok)
	require.Equal(t, ed25519.PublicKey(tokenKey(101)), key)
	require.Equal(t, start{live: 7, exercise: 3}, d.starts[nodeID{"a", 1}])
	_, ok = d.signingKey(nodeID{"a", 2})
	require.False(t, ok, "another node of the member has not joined")
	_, err := openToken(d, tokenKey(1))
	requireReason(t, err, "TOKEN_USED")
}

func TestASecondNodeLeavesTheFirstAsItIs(t *testing.T) {
	d := last(after(t, invited("a", 1, time.Now().Add(time.Hour)), joined("a", 1, 1), invited("a", 2, time.Now().Add(time.Hour)), joined("a", 2, 2)))
	for node, want := range map[uint32]byte{1: 101, 2: 102} {
		key, ok := d.signingKey(nodeID{"a", node})
		require.True(t, ok)
		require.Equal(t, ed25519.PublicKey(tokenKey(want)), key)
	}
}

func TestInvitingAnotherNodeKeepsAMemberActive(t *testing.T) {
	d := last(after(t, invited("a", 1, time.Now().Add(time.Hour)), joined("a", 1, 1), invited("a", 2, time.Now().Add(time.Hour))))
	_, ok := d.active("a")
	require.True(t, ok)
}

func TestATokenEndsByUseBurningOrTime(t *testing.T) {
	d := last(after(t,
		invited("a", 1, time.Now().Add(time.Hour)), joined("a", 1, 1),
		invited("b", 2, time.Now().Add(time.Hour)),
		&pb.DirectoryChange{Change: &pb.DirectoryChange_TokenBurnt{TokenBurnt: &pb.TokenBurnt{TokenKey: tokenKey(2)}}},
		invited("c", 3, time.Now().Add(-time.Second)),
		invited("d", 4, time.Now().Add(time.Hour)),
	))
	for token, reason := range map[byte]string{1: "TOKEN_USED", 2: "TOKEN_BURNT", 3: "TOKEN_EXPIRED", 9: "TOKEN_UNKNOWN"} {
		_, err := openToken(d, tokenKey(token))
		requireReason(t, err, reason)
	}
	got, err := openToken(d, tokenKey(4))
	require.NoError(t, err)
	require.Equal(t, "d", got.member)
}

func TestBurningAnUnknownTokenChangesNothing(t *testing.T) {
	d := last(after(t, &pb.DirectoryChange{Change: &pb.DirectoryChange_TokenBurnt{TokenBurnt: &pb.TokenBurnt{TokenKey: tokenKey(2)}}}))
	require.Empty(t, d.tokens)
}

func TestRevokingEndsNodesAndOpenTokens(t *testing.T) {
	d := last(after(t,
		invited("a", 1, time.Now().Add(time.Hour)), joined("a", 1, 1), invited("a", 2, time.Now().Add(time.Hour)),
		invited("b", 3, time.Now().Add(time.Hour)), revoked("a"),
	))
	_, ok := d.active("a")
	require.False(t, ok)
	_, ok = d.signingKey(nodeID{"a", 1})
	require.False(t, ok)
	_, err := openToken(d, tokenKey(2))
	requireReason(t, err, "TOKEN_BURNT")
	_, err = openToken(d, tokenKey(3))
	require.NoError(t, err, "other members keep theirs")
}

func TestAProfileReplacesTheOneBefore(t *testing.T) {
	set := func(p *pb.Profile) *pb.DirectoryChange {
		return &pb.DirectoryChange{Change: &pb.DirectoryChange_ProfileSet{ProfileSet: &pb.ProfileSet{Member: "a", Profile: p}}}
	}
	d := last(after(t, invited("a", 1, time.Now().Add(time.Hour)), set(testProfile()), set(&pb.Profile{Organisation: "別の組織"})))
	require.True(t, proto.Equal(&pb.Profile{Organisation: "別の組織"}, d.members["a"].GetProfile()))
	_, ok := person(d.members["a"], "ciso")
	require.False(t, ok)
}

func TestAnUnknownChangeIsAnError(t *testing.T) {
	_, err := newDirectory().apply(1, new(pb.DirectoryChange))
	require.Error(t, err)
}

func TestADirectoryOnceMadeNeverChanges(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	changes := []*pb.DirectoryChange{
		invited("a", 1, hour, "ops"), joined("a", 1, 1), invited("a", 2, hour), joined("a", 2, 2), invited("b", 3, hour),
		{Change: &pb.DirectoryChange_ProfileSet{ProfileSet: &pb.ProfileSet{Member: "a", Profile: testProfile()}}},
		invited("a", 4, hour, "other"), {Change: &pb.DirectoryChange_TokenBurnt{TokenBurnt: &pb.TokenBurnt{TokenKey: tokenKey(3)}}},
		revoked("b"), revoked("a"),
	}
	all := after(t, changes...)
	for i := range all {
		fresh := last(after(t, changes[:i]...)) // never extended
		require.Equal(t, fresh.revision, all[i].revision)
		require.Equal(t, fresh.tokens, all[i].tokens)
		require.Equal(t, fresh.starts, all[i].starts)
		require.Len(t, all[i].members, len(fresh.members))
		for id, m := range fresh.members {
			require.True(t, proto.Equal(m, all[i].members[id]), "revision %d, member %s", i, id)
		}
	}
}
