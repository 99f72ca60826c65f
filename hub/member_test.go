package hub

import (
	"context"
	"crypto/ed25519"
	"fmt"
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
	"pgregory.net/rapid"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

func setMember(at, effective time.Time, set *pb.MemberSet) *pb.DirectoryChange {
	c := &pb.DirectoryChange{ChangeTime: timestamppb.New(at), Change: &pb.DirectoryChange_MemberSet{MemberSet: set}}
	if !effective.IsZero() {
		c.EffectiveTime = timestamppb.New(effective)
	}
	return c
}

func TestAMemberIsWhatTheAdministratorSaidLast(t *testing.T) {
	d := last(after(t, invited("a", 1, tableDay, "ops"), setMember(tableDay, time.Time{}, &pb.MemberSet{
		Member: "a", Name: "新しい名", Role: pb.Role_ROLE_EXPERT, Communities: []string{"x"}, Jurisdictions: []string{"p1"}, Nda: true,
		Designations: []string{"d"}, SecrecyRegimes: []pb.SecrecyRegime{pb.SecrecyRegime_SECRECY_REGIME_CONTRACT}, Clients: []string{"b"},
	})))
	require.True(t, proto.Equal(&pb.Member{
		Id: "a", Name: "新しい名", Role: pb.Role_ROLE_EXPERT, Communities: []string{"testport", "x"}, State: pb.MemberState_MEMBER_STATE_INVITED,
		Jurisdictions: []string{"p1"}, Nda: true, Designations: []string{"d"},
		SecrecyRegimes: []pb.SecrecyRegime{pb.SecrecyRegime_SECRECY_REGIME_CONTRACT}, Clients: []string{"b"},
	}, d.members["a"]), "%v", d.members["a"])
}

func TestAChangeOfALaterDayWaitsForIt(t *testing.T) {
	day := func(n int) time.Time { return tableDay.AddDate(0, 0, n) }
	all := after(t,
		invited("a", 1, tableDay),
		setMember(day(0), day(10), &pb.MemberSet{Member: "a", Name: "十日", Role: pb.Role_ROLE_ISAC}),
		setMember(day(1), day(5), &pb.MemberSet{Member: "a", Name: "五日", Role: pb.Role_ROLE_USERS}),
		setMember(day(2), time.Time{}, &pb.MemberSet{Member: "a", Name: "今", Role: pb.Role_ROLE_POLICE}),
		setMember(day(3), day(10), &pb.MemberSet{Member: "a", Name: "十日、改め", Role: pb.Role_ROLE_COUNCIL}),
		// Made on the seventh day: what took effect on the fifth comes before it.
		setMember(day(7), time.Time{}, &pb.MemberSet{Member: "a", Name: "七日", Role: pb.Role_ROLE_EXPERT}),
	)
	before := all[len(all)-2]
	for n, name := range map[int]string{2: "今", 4: "今", 5: "五日", 9: "五日", 10: "十日、改め", 100: "十日、改め"} {
		require.Equal(t, name, before.at(day(n)).members["a"].GetName(), "day %d", n)
	}
	for n, name := range map[int]string{7: "七日", 9: "七日", 10: "十日、改め"} {
		require.Equal(t, name, last(all).at(day(n)).members["a"].GetName(), "day %d", n)
	}
	require.Equal(t, "今", before.members["a"].GetName(), "a directory once made never changes")
	require.Same(t, before, before.at(day(4)), "nothing is due")
	require.Same(t, before.at(day(6)), before.at(day(7)), "worked out once")
}

// The directory at an instant depends on the changes and the instant alone,
// goes only forward, and is the same whether it is asked on the way or later.
func TestTheDirectoryGoesForwardWithTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		day := func(n int) time.Time { return tableDay.AddDate(0, 0, n) }
		d := newDirectory()
		now, revision := 0, uint64(0)
		var changes []*pb.DirectoryChange
		for i := range rapid.IntRange(1, 8).Draw(t, "changes") {
			now += rapid.IntRange(0, 3).Draw(t, "days")
			c := setMember(day(now), time.Time{}, &pb.MemberSet{Member: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "member"), Name: fmt.Sprint(i)})
			if wait := rapid.IntRange(-1, 8).Draw(t, "wait"); wait >= 0 {
				c.EffectiveTime = timestamppb.New(day(now + wait))
			}
			changes = append(changes, c)
			d.at(day(rapid.IntRange(0, 40).Draw(t, "asked"))) // leaves no trace
			revision++
			former, waiting := d, slices.Clone(d.pending)
			var err error
			d, err = d.apply(revision, c)
			require.NoError(t, err)
			require.Equal(t, waiting, former.pending, "a directory once made never changes")
		}
		early := now + rapid.IntRange(0, 10).Draw(t, "early")
		late := early + rapid.IntRange(0, 10).Draw(t, "late")
		names := func(d *directory) string { return d.members["a"].GetName() + "/" + d.members["b"].GetName() }
		require.Equal(t, names(d.at(day(late))), names(d.at(day(early)).at(day(late))))
		require.LessOrEqual(t, len(d.at(day(late)).pending), len(d.at(day(early)).pending))

		// By the definition: of the changes of a member in force, the one that took
		// effect last, and of those the one decided last.
		for _, id := range []string{"a", "b"} {
			want, since := "", time.Time{}
			for _, c := range changes {
				begin := c.GetChangeTime().AsTime()
				if c.GetEffectiveTime() != nil {
					begin = c.GetEffectiveTime().AsTime()
				}
				if c.GetMemberSet().GetMember() == id && !begin.After(day(late)) && !begin.Before(since) {
					want, since = c.GetMemberSet().GetName(), begin
				}
			}
			require.Equal(t, want, d.at(day(late)).members[id].GetName())
		}
	})
}

func (h *testHub) setMember(set *pb.MemberSet, effective time.Time) error {
	req := &pb.SetMemberRequest{Member: set}
	if !effective.IsZero() {
		req.EffectiveTime = timestamppb.New(effective)
	}
	_, err := h.SetMember(context.Background(), req)
	return err
}

func TestMembersAreSetAndRefusedByTheAdministrator(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR, "ops"), h.join("b", pb.Role_ROLE_EXPERT)
	good := func() *pb.MemberSet {
		return &pb.MemberSet{Member: "a", Name: "名", Role: pb.Role_ROLE_OPERATOR, Communities: []string{"testport", "ops", "ops"},
			Jurisdictions: []string{"nagoya"}, Designations: []string{"special-infrastructure-operator"}, Clients: []string{"b"},
			SecrecyRegimes: []pb.SecrecyRegime{pb.SecrecyRegime_SECRECY_REGIME_COUNCIL_MEMBER}, Nda: true}
	}
	require.NoError(t, h.setMember(good(), time.Time{}))
	require.Equal(t, []string{"ops", "testport"}, h.directory().members["a"].GetCommunities())

	t.Run("what is wrong is told all at once", func(t *testing.T) {
		for name, c := range map[string]struct {
			change func(*pb.MemberSet)
			want   string
		}{
			"no name":              {func(m *pb.MemberSet) { m.Name = "" }, "name NAME_INVALID"},
			"long name":            {func(m *pb.MemberSet) { m.Name = strings.Repeat("x", 201) }, "name NAME_INVALID"},
			"no role":              {func(m *pb.MemberSet) { m.Role = 0 }, "role ROLE_MISSING"},
			"role of nobody":       {func(m *pb.MemberSet) { m.Role = 99 }, "role VALUE_UNKNOWN"},
			"unknown community":    {func(m *pb.MemberSet) { m.Communities = []string{"ops", "x"} }, "communities[1] COMMUNITY_UNKNOWN"},
			"community no id":      {func(m *pb.MemberSet) { m.Communities = []string{"A b"} }, "communities[0] ID_INVALID"},
			"jurisdiction no id":   {func(m *pb.MemberSet) { m.Jurisdictions = []string{"名古屋"} }, "jurisdictions[0] ID_INVALID"},
			"designation no id":    {func(m *pb.MemberSet) { m.Designations = []string{""} }, "designations[0] ID_INVALID"},
			"client of itself":     {func(m *pb.MemberSet) { m.Clients = []string{"a"} }, "clients[0] CLIENT_SELF"},
			"client not there":     {func(m *pb.MemberSet) { m.Clients = []string{"b", "c"} }, "clients[1] CLIENT_UNKNOWN"},
			"regime of no law":     {func(m *pb.MemberSet) { m.SecrecyRegimes = []pb.SecrecyRegime{77} }, "secrecy_regimes[0] VALUE_UNKNOWN"},
			"regime unspecified":   {func(m *pb.MemberSet) { m.SecrecyRegimes = []pb.SecrecyRegime{0} }, "secrecy_regimes[0] VALUE_UNKNOWN"},
			"name and role at one": {func(m *pb.MemberSet) { m.Name, m.Role = "", 0 }, "name NAME_INVALID, role ROLE_MISSING"},
		} {
			set := good()
			c.change(set)
			err := h.setMember(set, time.Time{})
			r := requireReason(t, err, strings.Fields(strings.Split(c.want, ",")[0])[1])
			var got []string
			for _, v := range r.Violations {
				got = append(got, v.Field+" "+v.Reason)
			}
			require.Equal(t, c.want, strings.Join(got, ", "), name)
			require.Equal(t, codes.InvalidArgument, r.Code, name)
		}
		require.True(t, h.directory().members["a"].GetNda(), "nothing of a refused change is kept")
	})
	t.Run("in a community that the policy has on that day", func(t *testing.T) {
		begin := time.Now().AddDate(0, 0, 10).Truncate(time.Second)
		_, err := h.SetPolicy(context.Background(), &pb.SetPolicyRequest{Policy: signedPolicy(t, h,
			fmt.Sprintf("version = \"c\"\n[[community]]\nid = \"berths\"\nstart = %s\n", begin.Format(time.RFC3339)))})
		require.NoError(t, err)
		set := good()
		set.Communities = []string{"berths"}
		requireReason(t, h.setMember(set, time.Time{}), "COMMUNITY_UNKNOWN")
		requireReason(t, h.setMember(set, begin.Add(-time.Second)), "COMMUNITY_UNKNOWN")
		require.NoError(t, h.setMember(set, begin))
	})
	t.Run("only a member that is there", func(t *testing.T) {
		set := good()
		set.Member = "nobody"
		require.Equal(t, codes.NotFound, requireReason(t, h.setMember(set, time.Time{}), "MEMBER_UNKNOWN").Code)
	})
	t.Run("within five years", func(t *testing.T) {
		requireReason(t, h.setMember(good(), time.Now().AddDate(5, 0, 2)), "EFFECTIVE_TIME_INVALID")
	})
	t.Run("and others see what they need to address it", func(t *testing.T) {
		seen := func(m *testMember, id string) *pb.Member {
			resp, err := m.hub.ListMembers(context.Background(), &pb.ListMembersRequest{})
			require.NoError(t, err)
			return resp.GetMembers()[slices.IndexFunc(resp.GetMembers(), func(m *pb.Member) bool { return m.GetId() == id })]
		}
		own, others := seen(a, "a"), seen(b, "a")
		require.True(t, proto.Equal(h.directory().members["a"], own))
		require.Equal(t, []string{"nagoya"}, others.GetJurisdictions())
		require.Equal(t, "名", others.GetName())
		require.NotEmpty(t, others.GetNodes())
		require.Empty(t, others.GetClients())
		require.False(t, others.GetNda())
		require.Empty(t, others.GetDesignations())
		require.Empty(t, others.GetSecrecyRegimes())
	})
	t.Run("but never one that was put out", func(t *testing.T) {
		_, err := h.Revoke(context.Background(), &pb.RevokeRequest{Member: "b"})
		require.NoError(t, err)
		set := good()
		set.Member, set.Clients = "b", nil
		require.Equal(t, codes.FailedPrecondition, requireReason(t, h.setMember(set, time.Time{}), "MEMBER_REVOKED").Code)
	})
}

// Every field of a member is either shown to others or on this list: a field to
// come cannot slip through.
func TestWhatOthersSeeOfAMemberIsDecidedFieldByField(t *testing.T) {
	full := &pb.Member{
		Id: "a", Name: "名", Role: pb.Role_ROLE_EXPERT, Communities: []string{"c"}, State: pb.MemberState_MEMBER_STATE_ACTIVE,
		Nodes: []*pb.Node{{Number: 1}}, Profile: testProfile(), Jurisdictions: []string{"p"}, Nda: true, Designations: []string{"d"},
		SecrecyRegimes: []pb.SecrecyRegime{1}, Clients: []string{"b"}, Keys: []*pb.SignedKey{{}},
	}
	hidden := []string{"nda", "designations", "secrecy_regimes", "clients"}
	fields := full.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		require.True(t, full.ProtoReflect().Has(f), "set %s here", f.Name())
		require.Equal(t, !slices.Contains(hidden, string(f.Name())), public(full).ProtoReflect().Has(f), f.Name())
	}
}

func TestPendingChangesOutliveARestart(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	h.join("a", pb.Role_ROLE_OPERATOR)
	soon := time.Now().Add(24 * time.Hour)
	require.NoError(t, h.setMember(&pb.MemberSet{Member: "a", Name: "明日の名", Role: pb.Role_ROLE_PORT_COMPANY}, soon))
	past := time.Now().Add(-time.Hour)
	require.NoError(t, h.setMember(&pb.MemberSet{Member: "a", Name: "今日の名", Role: pb.Role_ROLE_OPERATOR}, past), "a day that has come is now")
	for range 2 {
		require.Equal(t, "今日の名", h.directory().members["a"].GetName())
		require.Equal(t, "明日の名", h.directory().at(soon).members["a"].GetName())
		require.Equal(t, pb.MemberState_MEMBER_STATE_ACTIVE, h.directory().at(soon).members["a"].GetState())
		h.restart(nil)
	}
}

func signedPolicy(t testing.TB, h *testHub, text string) *pb.Envelope {
	t.Helper()
	key, err := ReadPolicyKey(PolicyKey(h.dir))
	require.NoError(t, err)
	return SignPolicy(key, []byte(text))
}

func TestAPolicyIsPutInForceAndABadOneLeavesTheFormer(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	h.join("ministry", pb.Role_ROLE_MINISTRY)
	set := func(env *pb.Envelope, check bool) (*pb.SetPolicyResponse, error) {
		return h.SetPolicy(context.Background(), &pb.SetPolicyRequest{Policy: env, Check: check})
	}
	inForce := func() string {
		resp, err := h.GetPolicy(context.Background(), &pb.GetPolicyRequest{})
		require.NoError(t, err)
		return resp.GetVersion()
	}
	require.Equal(t, builtIn().version, inForce())
	good := "version = \"v2\"\n" + goodRoute
	resp, err := set(signedPolicy(t, h, good), true)
	require.NoError(t, err)
	require.Equal(t, "v2", resp.GetVersion())
	require.Equal(t, builtIn().version, inForce(), "a check changes nothing")
	_, err = set(&pb.Envelope{PayloadType: seal.PolicyType, Payload: []byte(good)}, true)
	require.NoError(t, err, "a check needs no signature")

	before := h.directory().revision
	_, err = set(signedPolicy(t, h, good), false)
	require.NoError(t, err)
	for _, state := range []string{"at once", "after a restart"} {
		require.Equal(t, "v2", inForce(), state)
		require.Equal(t, before+1, h.directory().revision)
		got, err := h.GetPolicy(context.Background(), &pb.GetPolicyRequest{})
		require.NoError(t, err)
		require.Equal(t, good, string(got.GetPolicy()))
		require.Equal(t, seal.KeyID(h.policyKey), got.GetKeyId())
		require.Equal(t, "A1", h.directory().policy.routes[0].id)
		h.restart(nil)
	}

	_, other, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	wrongType := seal.Sign(other, seal.KeyType, []byte(good))
	changed := signedPolicy(t, h, good)
	changed.Payload = []byte(strings.Replace(good, "v2", "v3", 1))
	hubKey := SignPolicy(h.key, []byte(good))
	for name, c := range map[string]struct {
		env    *pb.Envelope
		check  bool
		reason string
		code   codes.Code
	}{
		"of another key":        {SignPolicy(other, []byte(good)), false, "POLICY_SIGNATURE", codes.PermissionDenied},
		"of the hub's own key":  {hubKey, false, "POLICY_SIGNATURE", codes.PermissionDenied},
		"of another key, check": {SignPolicy(other, []byte(good)), true, "POLICY_SIGNATURE", codes.PermissionDenied},
		"of another type":       {wrongType, false, "POLICY_SIGNATURE", codes.PermissionDenied},
		"without a signature":   {&pb.Envelope{PayloadType: seal.PolicyType, Payload: []byte(good)}, false, "POLICY_SIGNATURE", codes.PermissionDenied},
		"missing":               {nil, false, "POLICY_SIGNATURE", codes.PermissionDenied},
		"changed":               {changed, false, "POLICY_SIGNATURE", codes.PermissionDenied},
		"with a mistake":        {signedPolicy(t, h, good+"\ncolour = 1"), false, "UNKNOWN_KEY", codes.InvalidArgument},
		"with a mistake, check": {signedPolicy(t, h, good+"\ncolour = 1"), true, "UNKNOWN_KEY", codes.InvalidArgument},
		"for nobody":            {signedPolicy(t, h, strings.Replace(good, `["ministry"]`, `["police"]`, 1)), false, "ROLE_VACANT", codes.FailedPrecondition},
		"for nobody, check":     {signedPolicy(t, h, strings.Replace(good, `["ministry"]`, `["police"]`, 1)), true, "ROLE_VACANT", codes.FailedPrecondition},
	} {
		_, err := set(c.env, c.check)
		r := requireReason(t, err, c.reason)
		require.Equal(t, c.code, r.Code, name)
		if c.code != codes.PermissionDenied {
			require.Regexp(t, `^policy\.toml:\d+$`, r.Violations[0].Field, name)
		}
		require.Equal(t, "v2", inForce(), name)
		require.Equal(t, before+1, h.directory().revision, name)
	}
}

func TestThePolicyKeyMayBeKeptElsewhereButItsPublicHalfStays(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	key, err := ReadPolicyKey(PolicyKey(h.dir))
	require.NoError(t, err)
	require.Equal(t, key.Public(), h.policyKey)
	info, err := os.Stat(PolicyKey(h.dir))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	keys := filepath.Join(h.dir, "keys")
	public := filepath.Join(keys, policyPublicFile)

	require.NoError(t, os.Remove(PolicyKey(h.dir)))
	h.restart(nil)
	require.Equal(t, key.Public(), h.policyKey)
	h.join("ministry", pb.Role_ROLE_MINISTRY)
	_, err = h.SetPolicy(context.Background(), &pb.SetPolicyRequest{Policy: SignPolicy(key, []byte("version = \"v2\"\n"+goodRoute))})
	require.NoError(t, err)

	text, err := os.ReadFile(public)
	require.NoError(t, err)
	for name, content := range map[string][]byte{"empty": nil, "cut": text[:40], "no key": []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")} {
		require.NoError(t, os.WriteFile(public, content, 0o600))
		_, err := readPolicyKey(keys)
		wrong := new(PolicyKeyError)
		require.ErrorAs(t, err, &wrong, name)
		require.NotEmpty(t, wrong.Japanese())
	}
	require.NoError(t, os.Remove(public))
	_, err = readPolicyKey(keys)
	require.ErrorContains(t, err, "Restore it")
	require.NoError(t, writePolicyKey(keys))
	require.NoError(t, os.WriteFile(public, text, 0o600))
	_, err = readPolicyKey(keys)
	require.ErrorContains(t, err, "not a pair")
	require.NoError(t, os.WriteFile(PolicyKey(h.dir), []byte("short"), 0o600))
	_, err = ReadPolicyKey(PolicyKey(h.dir))
	require.ErrorContains(t, err, "hub init")
}

// newKey is an entry that a node may publish.
func (m *testMember) newKey(t testing.TB, person string) *pb.KeyEntry {
	t.Helper()
	key, err := seal.GenerateKey(seal.DHKEMP256)
	require.NoError(t, err)
	return &pb.KeyEntry{
		Member: m.id.member, Person: person, Node: m.id.number, Suite: seal.DHKEMP256, PublicKey: key.Public().Bytes(),
		CreateTime: timestamppb.Now(), ExpireTime: timestamppb.New(time.Now().AddDate(1, 0, 0)),
	}
}

func (m *testMember) setKey(t testing.TB, e *pb.KeyEntry) error {
	t.Helper()
	payload, err := proto.Marshal(e)
	require.NoError(t, err)
	_, err = m.hub.SetKey(context.Background(), &pb.SetKeyRequest{Key: seal.Sign(m.signing, seal.KeyType, payload)})
	return err
}

func TestANodePublishesItsOwnKeys(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	first, persons := a.newKey(t, ""), a.newKey(t, "ciso")
	require.NoError(t, a.setKey(t, first))
	require.NoError(t, a.setKey(t, persons))
	revision := h.directory().revision
	require.NoError(t, a.setKey(t, first))
	require.Equal(t, revision, h.directory().revision, "the same again changes nothing")
	second := a.newKey(t, "")
	require.NoError(t, a.setKey(t, second))

	t.Run("and everybody can verify them", func(t *testing.T) {
		h.restart(nil)
		b.dial()
		resp, err := b.hub.ListMembers(context.Background(), &pb.ListMembersRequest{})
		require.NoError(t, err)
		keys := resp.GetMembers()[0].GetKeys()
		require.Len(t, keys, 2, "the newest of the node and that of the person")
		for i, want := range []*pb.KeyEntry{second, persons} {
			got, err := seal.VerifyKey(keys[i].GetEnvelope(), a.signing.Public().(ed25519.PublicKey))
			require.NoError(t, err)
			require.True(t, proto.Equal(want, got))
			require.True(t, proto.Equal(want, keys[i].GetEntry()))
		}
		a.dial()
	})
	t.Run("but no others", func(t *testing.T) {
		for name, c := range map[string]struct {
			change func(*pb.KeyEntry)
			reason string
		}{
			"of another member":     {func(e *pb.KeyEntry) { e.Member = "b" }, "KEY_NOT_YOURS"},
			"of another node":       {func(e *pb.KeyEntry) { e.Node = 2 }, "KEY_NOT_YOURS"},
			"of nobody":             {func(e *pb.KeyEntry) { e.Person = "nobody" }, "PERSON_UNKNOWN"},
			"of an unknown suite":   {func(e *pb.KeyEntry) { e.Suite = "X25519" }, "KEY_INVALID"},
			"too short":             {func(e *pb.KeyEntry) { e.PublicKey = e.PublicKey[:64] }, "KEY_INVALID"},
			"that has expired":      {func(e *pb.KeyEntry) { e.CreateTime, e.ExpireTime = ago(48), ago(24) }, "KEY_TIME"},
			"of the future":         {func(e *pb.KeyEntry) { e.CreateTime = ago(-1) }, "KEY_TIME"},
			"that lives for ever":   {func(e *pb.KeyEntry) { e.ExpireTime = ago(-24 * 400) }, "KEY_INVALID"},
			"that never ends":       {func(e *pb.KeyEntry) { e.ExpireTime = nil }, "KEY_INVALID"},
			"older than the last":   {func(e *pb.KeyEntry) { e.CreateTime = ago(1) }, "KEY_OLDER"},
			"with more than it may": {func(e *pb.KeyEntry) { e.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x01}) }, "KEY_INVALID"},
		} {
			e := a.newKey(t, "")
			c.change(e)
			t.Log(name)
			requireReason(t, a.setKey(t, e), c.reason)
		}
		e := a.newKey(t, "")
		payload, err := proto.Marshal(e)
		require.NoError(t, err)
		_, err = a.hub.SetKey(context.Background(), &pb.SetKeyRequest{Key: seal.Sign(b.signing, seal.KeyType, payload)})
		requireReason(t, err, "KEY_SIGNATURE")
		_, err = a.hub.SetKey(context.Background(), &pb.SetKeyRequest{Key: seal.Sign(a.signing, seal.LiveReportType, payload)})
		requireReason(t, err, "KEY_SIGNATURE")
		require.Len(t, h.directory().members["a"].GetKeys(), 2)
	})
	t.Run("a person who leaves takes the key along", func(t *testing.T) {
		profile := testProfile()
		profile.Persons = nil
		_, err := a.hub.SetProfile(context.Background(), &pb.SetProfileRequest{Profile: profile})
		require.NoError(t, err)
		require.Len(t, h.directory().members["a"].GetKeys(), 1)
		require.Empty(t, h.directory().members["a"].GetKeys()[0].GetEntry().GetPerson())
	})
	t.Run("not too often", func(t *testing.T) {
		var err error
		for range 40 {
			if err = a.setKey(t, a.newKey(t, "")); err != nil {
				break
			}
		}
		require.Equal(t, codes.ResourceExhausted, requireReason(t, err, "KEY_TOO_OFTEN").Code)
		require.NoError(t, b.setKey(t, b.newKey(t, "")), "others may")
	})
	t.Run("a revoked member has none", func(t *testing.T) {
		_, err := h.Revoke(context.Background(), &pb.RevokeRequest{Member: "a"})
		require.NoError(t, err)
		require.Empty(t, h.directory().members["a"].GetKeys())
	})
}

func ago(hours int) *timestamppb.Timestamp {
	return timestamppb.New(time.Now().Add(-time.Duration(hours) * time.Hour))
}
