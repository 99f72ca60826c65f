package node

import (
	"crypto/ed25519"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

func TestTheNodeMakesAndPublishesItsKeyAndDoesSoAgainWhenItIsGone(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	n := h.run(t, dir)
	key := n.keys.current()
	require.Equal(t, seal.MLKEM768P256, key.Suite())
	eventually(t, func() bool { return h.lists(key.Public().ID()) }, "published")
	info, err := os.Stat(filepath.Join(dir, "keys", "seal.key"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	status, err := n.GetStatus(t.Context(), &pb.GetStatusRequest{})
	require.NoError(t, err)
	require.Equal(t, key.Public().Fingerprint(), status.GetKeyFingerprint())

	require.NoError(t, n.refreshOnce(t.Context()))
	calls := h.count(callKey)
	require.NoError(t, n.refreshOnce(t.Context()))
	require.Equal(t, calls, h.count(callKey), "what is there is not published again")
	var first, again []byte
	h.see(func() {
		first = h.keys["terminal-a"][0].GetEnvelope().GetPayload()
		h.keys["terminal-a"] = nil
	})
	require.NoError(t, n.refreshOnce(t.Context()))
	h.see(func() { again = h.keys["terminal-a"][0].GetEnvelope().GetPayload() })
	require.Equal(t, first, again, "the same entry, not another one for the same key")
	n.end()

	n = h.run(t, dir)
	require.Equal(t, key.Public().ID(), n.keys.current().Public().ID(), "a restart makes no new key")
	require.NoError(t, n.refreshOnce(t.Context()))
	h.see(func() { require.Equal(t, first, h.keys["terminal-a"][0].GetEnvelope().GetPayload()) })
}

func TestTheProfileOfAlgorithmsChoosesTheKey(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	c, err := ReadConfig(filepath.Join(dir, "node.toml"))
	require.NoError(t, err)
	require.Equal(t, "default", c.Crypto)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "node.toml"), []byte(strings.Replace(string(read(t, filepath.Join(dir, "node.toml"))), "crypto = 'default'", "crypto = 'cryptrec'", 1)), 0o600))
	n := h.run(t, dir)
	require.Equal(t, seal.DHKEMP256, n.keys.current().Suite())
	id := n.keys.current().Public().ID()
	n.end()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "node.toml"), []byte(strings.Replace(string(read(t, filepath.Join(dir, "node.toml"))), "cryptrec", "default", 1)), 0o600))
	n = h.run(t, dir)
	eventually(t, func() bool {
		return n.keys.current().Suite() == seal.MLKEM768P256 && h.lists(n.keys.current().Public().ID())
	}, "another key")
	require.NotNil(t, n.keys.find("", id), "the former one still opens")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "node.toml"), []byte(strings.Replace(string(read(t, filepath.Join(dir, "node.toml"))), "default", "des", 1)), 0o600))
	_, err = ReadConfig(filepath.Join(dir, "node.toml"))
	require.ErrorContains(t, err, "default or cryptrec")
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

func TestAKeyIsRenewedAtHalfItsLifeAndTheFormerOneStillOpens(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	n := h.run(t, dir)
	require.NoError(t, n.store.setProfile(t.Context(), memberProfile(), true))
	eventually(t, func() bool { return h.lists(n.keys.current().Public().ID()) }, "published")
	ciso := personKey(t, n, "ciso", true)
	former := n.keys.current()
	entries, err := n.ownEntries(t.Context(), time.Now().Add(keyLife/2-time.Hour))
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, former.Public().ID(), n.keys.current().Public().ID())

	later := time.Now().Add(keyLife/2 + time.Hour)
	entries, err = n.ownEntries(t.Context(), later)
	require.NoError(t, err)
	now := n.keys.current()
	require.NotEqual(t, former.Public().ID(), now.Public().ID())
	require.Equal(t, now.Public().ID(), entries[0].keyID)
	require.Equal(t, ciso.Public().ID(), entries[1].keyID, "a person keeps the key")
	e, err := entryOf(entries[1])
	require.NoError(t, err)
	require.True(t, e.GetExpireTime().AsTime().After(time.Now().Add(keyLife)), "under a new entry")
	again, err := n.ownEntries(t.Context(), later)
	require.NoError(t, err)
	require.Equal(t, entries, again)
	n.end()

	n = h.run(t, dir)
	require.Equal(t, now.Public().ID(), n.keys.current().Public().ID())
	require.FileExists(t, filepath.Join(dir, "keys", "seal-"+former.Public().ID()+".key"))
	id := h.post(t, sound(t, "古い鍵で", strict), former.Public(), aLetter{})
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, id).GetState())
	item, err := n.store.item(t.Context(), liveLane, id)
	require.NoError(t, err)
	require.Equal(t, "古い鍵で", item.GetTitle())
}

func TestADamagedOrOpenKeyFileIsRefused(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	h.run(t, dir).end()
	c, err := ReadConfig(filepath.Join(dir, "node.toml"))
	require.NoError(t, err)
	path := filepath.Join(dir, "keys", "seal.key")
	good := read(t, path)
	require.NoError(t, os.WriteFile(path, good[:len(good)/2], 0o600))
	_, err = Open(t.Context(), c, newLog().logger())
	require.ErrorAs(t, err, new(*KeyError))
	require.NoError(t, os.WriteFile(path, good, 0o600))
	require.NoError(t, os.Chmod(path, 0o644))
	_, err = Open(t.Context(), c, newLog().logger())
	require.ErrorContains(t, err, "chmod")
	require.NoError(t, os.Chmod(path, 0o600))
	n, err := Open(t.Context(), c, newLog().logger())
	require.NoError(t, err)
	require.NoError(t, n.Close())
}

// forged puts an entry for terminal-a into the directory that terminal-a has
// not made.
func (h *fakeHub) forged(t *testing.T, person string, number uint32, signer ed25519.PrivateKey) *pb.KeyEntry {
	t.Helper()
	key, err := seal.GenerateKey(seal.DHKEMP256)
	require.NoError(t, err)
	now := time.Now()
	e := &pb.KeyEntry{Member: "terminal-a", Person: person, Node: number, Suite: key.Suite(), PublicKey: key.Public().Bytes(),
		CreateTime: timestamppb.New(now), ExpireTime: timestamppb.New(now.Add(keyLife))}
	env, err := seal.SignKey(signer, e)
	require.NoError(t, err)
	h.see(func() { h.keys["terminal-a"] = append(h.keys["terminal-a"], &pb.SignedKey{Entry: e, Envelope: env}) })
	return e
}

func TestAnyKeyOfOursThatWeHaveNotMadeIsAnAlarm(t *testing.T) {
	for name, forge := range map[string]func(t *testing.T, h *fakeHub, n *runningNode) string{
		"signed by the hub": func(t *testing.T, h *fakeHub, _ *runningNode) string {
			return seal.Fingerprint(h.forged(t, "", 1, h.key).GetPublicKey())
		},
		"of a person of ours": func(t *testing.T, h *fakeHub, _ *runningNode) string {
			return seal.Fingerprint(h.forged(t, "ciso", 1, h.key).GetPublicKey())
		},
		"of a node that is not there": func(t *testing.T, h *fakeHub, _ *runningNode) string {
			return seal.Fingerprint(h.forged(t, "", 7, h.key).GetPublicKey())
		},
		"signed with our stolen signing key": func(t *testing.T, h *fakeHub, n *runningNode) string {
			return seal.Fingerprint(h.forged(t, "", 1, n.id.signing).GetPublicKey())
		},
		"shown otherwise than it was signed": func(t *testing.T, h *fakeHub, n *runningNode) (print string) {
			h.see(func() {
				k := proto.CloneOf(h.keys["terminal-a"][0])
				k.Entry.PublicKey[5] ^= 1
				h.keys["terminal-a"] = []*pb.SignedKey{k}
				print = seal.Fingerprint(k.GetEntry().GetPublicKey())
			})
			return print
		},
		"another signing key": func(_ *testing.T, h *fakeHub, _ *runningNode) (print string) {
			h.see(func() {
				h.nodeKey, print = h.key.Public().(ed25519.PublicKey), seal.KeyID(h.key.Public().(ed25519.PublicKey))
			})
			return print
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHub(t, GRPC)
			log := newLog()
			dir := h.join(t)
			n := h.run(t, dir, log.logger())
			eventually(t, func() bool { return h.lists(n.keys.current().Public().ID()) }, "published")
			require.NoError(t, n.fetchDirectory(t.Context()))
			status, err := n.GetStatus(t.Context(), &pb.GetStatusRequest{})
			require.NoError(t, err)
			require.Empty(t, status.GetKeyAlarms(), "what we have made is no alarm")
			var keys []*pb.SignedKey
			var signing ed25519.PublicKey
			h.see(func() { keys, signing = slices.Clone(h.keys["terminal-a"]), h.nodeKey })

			print := forge(t, h, n)
			require.NoError(t, n.fetchDirectory(t.Context()))
			status, err = n.GetStatus(t.Context(), &pb.GetStatusRequest{})
			require.NoError(t, err)
			require.NotEmpty(t, status.GetKeyAlarms())
			require.Contains(t, status.GetKeyAlarms()[0], print)
			require.Contains(t, status.GetKeyAlarms()[0], "電話")
			require.Contains(t, status.GetKeyAlarms()[0], "Telephone")
			require.Contains(t, log.String(), "keys that are not ours")

			h.see(func() { h.keys["terminal-a"], h.nodeKey = keys, signing })
			require.NoError(t, n.fetchDirectory(t.Context()))
			n.end()
			n = h.run(t, dir)
			require.NoError(t, n.fetchDirectory(t.Context()))
			status, err = n.GetStatus(t.Context(), &pb.GetStatusRequest{})
			require.NoError(t, err)
			require.NotEmpty(t, status.GetKeyAlarms(), "it stays to be seen")
			require.Contains(t, status.GetKeyAlarms()[0], "(until ")
		})
	}
}

// Two nodes of a member know each other's keys by the directory's signing keys.
func TestTheKeyOfASiblingIsNoAlarm(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.run(t, h.join(t))
	_, sibling, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	h.forged(t, "", 2, sibling)
	h.forged(t, "ciso", 2, sibling)
	own := &pb.Member{Id: "terminal-a", Nodes: []*pb.Node{
		{Number: 1, SigningKey: n.id.signing.Public().(ed25519.PublicKey)}, {Number: 2, SigningKey: sibling.Public().(ed25519.PublicKey)},
	}}
	h.see(func() { own.Keys = h.keys["terminal-a"] })
	require.NoError(t, n.store.setPins(t.Context(), signersOf(own)), "the node itself is confirmed")
	alarms, err := n.ownKeyAlarms(t.Context(), own)
	require.NoError(t, err)
	require.Empty(t, alarms)
	own.Nodes[1].State = pb.MemberState_MEMBER_STATE_REVOKED
	alarms, err = n.ownKeyAlarms(t.Context(), own)
	require.NoError(t, err)
	require.Len(t, alarms, 2, "a node that is out has no keys")
}

// A hub could make up a further node of a member, with a signing key of its
// own. Nothing is sealed to it before somebody has telephoned.
func TestAFurtherNodeOfAKnownMemberIsConfirmedFirst(t *testing.T) {
	h := newFakeHub(t, GRPC)
	first := h.published(t, "")
	sato := h.published(t, "sato")
	n := h.writer(t)
	require.NoError(t, n.fetchDirectory(t.Context()))
	_, second, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	add := func(person string) *seal.PrivateKey {
		key, err := seal.GenerateKey(seal.DHKEMP256)
		require.NoError(t, err)
		now := time.Now()
		e := &pb.KeyEntry{Member: "terminal-b", Person: person, Node: 2, Suite: key.Suite(), PublicKey: key.Public().Bytes(),
			CreateTime: timestamppb.New(now), ExpireTime: timestamppb.New(now.Add(keyLife))}
		env, err := seal.SignKey(second, e)
		require.NoError(t, err)
		h.see(func() { h.second = second; h.list(e, env) })
		return key
	}
	other := add("")
	add("sato")
	require.NoError(t, n.fetchDirectory(t.Context()))
	ids := func() (all []string, bad []rpc.Violation) {
		book, err := n.openKeybook(t.Context())
		require.NoError(t, err)
		holders, bad := book.holdersOf(toB(pb.Flow_FLOW_AUTHORITY), time.Now())
		for _, holder := range holders {
			all = append(all, holder.key.ID())
		}
		return all, bad
	}
	got, bad := ids()
	require.Empty(t, bad, "the member reads it at the node that is known")
	require.Equal(t, []string{first.Public().ID()}, got)
	status, err := n.GetStatus(t.Context(), &pb.GetStatusRequest{})
	require.NoError(t, err)
	require.Len(t, status.GetWarnings(), 1)
	require.Contains(t, status.GetWarnings()[0], other.Public().Fingerprint())
	require.Contains(t, status.GetWarnings()[0], "--confirm-key terminal-b")

	book, err := n.openKeybook(t.Context())
	require.NoError(t, err)
	_, bad = book.holdersOf(toB(pb.Flow_FLOW_AUTHORITY, "sato"), time.Now())
	require.Len(t, bad, 1, "another key of a person is never sealed to unseen")
	require.Equal(t, "KEY_CHANGED", bad[0].Reason)
	require.NotContains(t, bad[0].English, sato.Public().Fingerprint())

	_, err = n.ConfirmKey(t.Context(), &pb.ConfirmKeyRequest{Member: "terminal-b"})
	require.NoError(t, err)
	got, bad = ids()
	require.Empty(t, bad)
	require.ElementsMatch(t, []string{first.Public().ID(), other.Public().ID()}, got)
	status, err = n.GetStatus(t.Context(), &pb.GetStatusRequest{})
	require.NoError(t, err)
	require.Empty(t, status.GetWarnings())

	// The node that was known is gone: the other one is another key.
	h.see(func() { h.keys["terminal-b"] = h.keys["terminal-b"][:1] }) // before it looks at the directory
	fresh := h.writer(t)
	require.NoError(t, fresh.fetchDirectory(t.Context()))
	add("")
	h.see(func() { h.keys["terminal-b"] = h.keys["terminal-b"][1:] })
	require.NoError(t, fresh.fetchDirectory(t.Context()))
	n = fresh
	got, bad = ids()
	require.Empty(t, got)
	require.Equal(t, "KEY_CHANGED", bad[0].Reason)
}

func TestOnlyKeysThatTheirOwnersHaveSignedAreShown(t *testing.T) {
	h := newFakeHub(t, GRPC)
	good := h.published(t, "sato")
	h.published(t, "suzuki", h.key)
	n := h.run(t, h.join(t))
	resp, err := n.ListPeers(t.Context(), &pb.ListPeersRequest{})
	require.NoError(t, err)
	keys := memberOf(resp.GetMembers(), "terminal-b").GetKeys()
	require.Len(t, keys, 1)
	require.Equal(t, good.Public().Bytes(), keys[0].GetEntry().GetPublicKey())
}

func TestAPersonsKeyIsKeptPrivatelyAndPublished(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	n := h.run(t, dir)
	require.NoError(t, n.store.setProfile(t.Context(), memberProfile(), true))
	first := personKey(t, n, "ciso", true)
	second := personKey(t, n, "ciso", true)
	require.True(t, h.lists(second.Public().ID()))
	require.False(t, h.lists(first.Public().ID()))
	for _, name := range []string{"ciso.key", "ciso." + first.Public().ID() + ".key"} {
		info, err := os.Stat(filepath.Join(dir, "keys", "persons", name))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	}
	n.end()
	n = h.run(t, dir)
	for _, key := range []*seal.PrivateKey{first, second} {
		require.NotNil(t, n.keys.find("ciso", key.Public().ID()))
	}
	third := personKey(t, n, "ciso", false)
	require.Nil(t, n.keys.find("ciso", third.Public().ID()), "the person alone has it")
	require.True(t, h.lists(third.Public().ID()))

	pub, err := seal.GenerateKey(seal.DHKEMP256)
	require.NoError(t, err)
	raw, err := first.Bytes()
	require.NoError(t, err)
	for name, req := range map[string]*pb.SetPersonKeyRequest{
		"PERSON_UNKNOWN": {Person: "nobody", Suite: pub.Suite(), PublicKey: pub.Public().Bytes()},
		"KEY_INVALID":    {Person: "ciso", Suite: "RSA", PublicKey: pub.Public().Bytes()},
		"KEY_INVALID ":   {Person: "ciso", Suite: pub.Suite(), PublicKey: []byte("key")},
		"KEY_INVALID  ":  {Person: "ciso", Suite: pub.Suite(), PublicKey: pub.Public().Bytes(), PrivateKey: []byte("key")},
		"KEY_INVALID   ": {Person: "ciso", Suite: first.Suite(), PublicKey: second.Public().Bytes(), PrivateKey: raw},
	} {
		_, err := n.SetPersonKey(t.Context(), req)
		refusal, ok := rpc.RefusalOf(err)
		require.True(t, ok, "%v", err)
		require.Equal(t, strings.TrimSpace(name), refusal.Reason)
		require.Equal(t, codes.InvalidArgument, refusal.Code)
	}
}

// A key that is set while the hub is away is published when it is back; one
// that the hub refuses says so.
func TestAPersonsKeyReachesTheHubLater(t *testing.T) {
	for name, f := range map[string]fault{"lost on the way": lostOnTheWay, "answer lost": answerLost} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHub(t, GRPC)
			n := h.writer(t)
			eventually(t, func() bool { return h.atRest(n) }, "the start is over")
			h.fail(callKey, f)
			key := personKey(t, n, "ciso", true)
			require.NoError(t, n.refreshOnce(t.Context()))
			require.True(t, h.lists(key.Public().ID()))
			require.NoError(t, n.fetchDirectory(t.Context()))
			status, err := n.GetStatus(t.Context(), &pb.GetStatusRequest{})
			require.NoError(t, err)
			require.Empty(t, status.GetKeyAlarms())
		})
	}
	h := newFakeHub(t, GRPC)
	n := h.writer(t)
	eventually(t, func() bool { return h.atRest(n) }, "the start is over")
	h.fail(callKey, refusedByHub)
	key, err := seal.GenerateKey(seal.DHKEMP256)
	require.NoError(t, err)
	_, err = n.SetPersonKey(t.Context(), &pb.SetPersonKeyRequest{Person: "ciso", Suite: key.Suite(), PublicKey: key.Public().Bytes()})
	require.ErrorContains(t, err, "does not take it")
}

func TestAlarmsAreBounded(t *testing.T) {
	s := newStore(t)
	var many []keyAlarm
	for range maxAlarms + 20 {
		many = append(many, keyAlarm{id: newID(t), japanese: "日本語", english: "English"})
	}
	require.NoError(t, s.setKeyAlarms(t.Context(), many))
	all, err := s.keyAlarms(t.Context())
	require.NoError(t, err)
	require.Len(t, all, maxAlarms)
	require.NoError(t, s.setKeyAlarms(t.Context(), nil))
	all, err = s.keyAlarms(t.Context())
	require.NoError(t, err)
	require.Len(t, all, maxAlarms)
	require.False(t, slices.ContainsFunc(all, func(a keyAlarm) bool { return a.present }))
}

func TestDesksThatNobodyHasConfirmedAreStale(t *testing.T) {
	now := time.Now()
	p := memberProfile()
	require.Equal(t, []string{"当直", "本社"}, staleDesks(p, now), "never confirmed")
	p.Desks[0].VerifyTime = timestamppb.New(now.Add(-deskLife - time.Hour))
	p.Desks[1].VerifyTime = timestamppb.New(now.Add(-deskLife + time.Hour))
	require.Equal(t, []string{"当直"}, staleDesks(p, now))
	n := author(t)
	require.NoError(t, n.store.setProfile(t.Context(), p, false))
	status, err := n.GetStatus(t.Context(), &pb.GetStatusRequest{})
	require.NoError(t, err)
	require.Equal(t, []string{"当直"}, status.GetStaleDesks())
}

// A hub that may not read a report could put a node of its own making into the
// directory and let it vouch for a further key of a recipient.
func TestAFurtherKeyOfSomebodyWhoHasOneIsConfirmedByAPerson(t *testing.T) {
	for name, c := range map[string]struct {
		person string
		report *pb.Report
		copy   *pb.Copy
	}{
		"of a person": {"sato", secret(red), toB(pb.Flow_FLOW_AUTHORITY, "sato")},
		"of a node":   {"", secret(strict), toB(pb.Flow_FLOW_AUTHORITY)},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHub(t, GRPC)
			h.copies(c.copy)
			known := h.published(t, c.person)
			n := h.writer(t)
			require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, n.sends(t, proto.CloneOf(c.report)).GetState())

			_, invented, err := ed25519.GenerateKey(nil)
			require.NoError(t, err)
			further := func(key *seal.PrivateKey) {
				e := &pb.KeyEntry{Member: "terminal-b", Person: c.person, Node: 2, Suite: key.Suite(), PublicKey: key.Public().Bytes(),
					CreateTime: timestamppb.Now(), ExpireTime: timestamppb.New(time.Now().Add(keyLife))}
				env, err := seal.SignKey(invented, e)
				require.NoError(t, err)
				h.see(func() { h.second = invented; h.list(e, env) })
				require.NoError(t, n.fetchDirectory(t.Context()))
			}
			if c.person != "" { // the very key, through another node, is the person's still
				further(known)
				require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, n.sends(t, proto.CloneOf(c.report)).GetState())
			}
			key, err := seal.GenerateKey(seal.DHKEMP256)
			require.NoError(t, err)
			further(key)
			refused := n.sends(t, proto.CloneOf(c.report))
			if c.person != "" {
				require.Equal(t, "KEY_CHANGED", refused.GetRefusal().GetReason())
			} else { // it is read at the node that is known
				require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, refused.GetState())
				h.opens(t, refused.GetReport(), c.copy, known)
				require.False(t, h.wraps(t, refused.GetReport(), key), "nothing is sealed to a key that nobody has confirmed")
			}
			_, err = n.ConfirmKey(t.Context(), &pb.ConfirmKeyRequest{Member: "terminal-b", Person: c.person})
			require.NoError(t, err)
			item := n.sends(t, proto.CloneOf(c.report))
			require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState())
			h.opens(t, item.GetReport(), c.copy, key)
		})
	}
}

// A hub could make up a further node of our own and report in our name with it.
func TestAFurtherNodeOfOurOwnIsAnAlarmUntilAPersonConfirmsIt(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	n := h.run(t, dir)
	require.NoError(t, n.fetchDirectory(t.Context()))
	alarms := func() []string {
		status, err := n.GetStatus(t.Context(), &pb.GetStatusRequest{})
		require.NoError(t, err)
		require.Equal(t, seal.Fingerprint(n.id.signing.Public().(ed25519.PublicKey)), status.GetSigningFingerprint())
		return status.GetKeyAlarms()
	}
	require.Empty(t, alarms())
	_, err := n.ConfirmKey(t.Context(), &pb.ConfirmKeyRequest{Member: "terminal-a"})
	requireReason(t, err, codes.NotFound, "KEY_NOT_FOUND")
	for range 2 { // another key of the same node is as strange
		public, _, err := ed25519.GenerateKey(nil)
		require.NoError(t, err)
		h.see(func() { h.sibling = public })
		require.NoError(t, n.fetchDirectory(t.Context()))
		require.Len(t, alarms(), 1)
		require.Contains(t, alarms()[0], seal.Fingerprint(public))
		require.Contains(t, alarms()[0], "--confirm-key terminal-a")
		n.end()
		n = h.run(t, dir)
		require.NoError(t, n.fetchDirectory(t.Context()))
		require.Len(t, alarms(), 1, "it is not taken at the next start")
		resp, err := n.ConfirmKey(t.Context(), &pb.ConfirmKeyRequest{Member: "terminal-a"})
		require.NoError(t, err)
		require.Equal(t, []string{seal.Fingerprint(public)}, resp.GetFingerprints())
		require.NoError(t, n.fetchDirectory(t.Context()))
		require.Empty(t, alarms())
	}
}
