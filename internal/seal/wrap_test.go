package seal

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
)

var (
	aVariant = Variant{Report: "0123456789abcdef0123456789abcdef", Lane: pb.Lane_LANE_LIVE, Flow: pb.Flow_FLOW_AUTHORITY, Named: true}
	aHolder  = Holder{Member: "mlit", Person: "sato"}
)

// otherVariants differ from aVariant in one thing each.
func otherVariants() (all []Variant) {
	for _, change := range []func(*Variant){
		func(v *Variant) { v.Report = "1123456789abcdef0123456789abcdef" },
		func(v *Variant) { v.Lane = pb.Lane_LANE_EXERCISE },
		func(v *Variant) { v.Flow = pb.Flow_FLOW_PEER },
		func(v *Variant) { v.Named = false },
	} {
		v := aVariant
		change(&v)
		all = append(all, v)
	}
	return all
}

func allSuites() []string { return slices.Sorted(maps.Keys(suites)) }

func sealingKey(t testing.TB, suite string) *PrivateKey {
	t.Helper()
	key, err := GenerateKey(suite)
	require.NoError(t, err)
	return key
}

func TestWrappedKeyOpensForItsHolderInItsPlaceOnly(t *testing.T) {
	digest := sha256.Sum256([]byte("ciphertext"))
	other := sha256.Sum256([]byte("other ciphertext"))
	for _, suite := range allSuites() {
		t.Run(suite, func(t *testing.T) {
			own, stranger, key := sealingKey(t, suite), sealingKey(t, suite), NewContentKey()
			sealed, err := Wrap(own.Public(), key, aVariant, digest[:], aHolder)
			require.NoError(t, err)
			got, err := own.Unwrap(sealed, aVariant, digest[:], aHolder)
			require.NoError(t, err)
			require.Equal(t, key, got)

			_, err = stranger.Unwrap(sealed, aVariant, digest[:], aHolder)
			require.ErrorIs(t, err, ErrSealed, "another key")
			for _, v := range otherVariants() {
				_, err = own.Unwrap(sealed, v, digest[:], aHolder)
				require.ErrorIs(t, err, ErrSealed, "moved to %v", v)
			}
			_, err = own.Unwrap(sealed, aVariant, other[:], aHolder)
			require.ErrorIs(t, err, ErrSealed, "moved to another content")
			for _, h := range []Holder{{"mlit", "suzuki", 0}, {"mli", "tsato", 0}, {"mlit", "", 1}, {"npa", "sato", 0}, {}} {
				_, err = own.Unwrap(sealed, aVariant, digest[:], h)
				require.ErrorIs(t, err, ErrSealed, "moved to %v", h)
			}
			for i := range sealed {
				changed := bytes.Clone(sealed)
				changed[i] ^= 1
				_, err = own.Unwrap(changed, aVariant, digest[:], aHolder)
				require.ErrorIs(t, err, ErrSealed)
				_, err = own.Unwrap(sealed[:i], aVariant, digest[:], aHolder)
				require.ErrorIs(t, err, ErrSealed)
			}
			again, err := Wrap(own.Public(), key, aVariant, digest[:], aHolder)
			require.NoError(t, err)
			require.NotEqual(t, sealed, again)
		})
	}
}

// What crosses from one suite to another never opens.
func TestKeysOfOneSuiteAreNoneOfAnother(t *testing.T) {
	for _, suite := range allSuites() {
		for _, other := range allSuites() {
			key := sealingKey(t, suite)
			_, err := NewPublicKey(other, key.Public().Bytes())
			if suite == other {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, ErrKey)
		}
	}
	_, err := GenerateKey("X25519")
	require.ErrorIs(t, err, ErrSuite)
	_, err = NewPublicKey("", nil)
	require.ErrorIs(t, err, ErrSuite)
	_, err = NewPrivateKey("MLKEM768-P256 ", nil)
	require.ErrorIs(t, err, ErrSuite)
}

func TestContentOpensUnderItsKeyVariantAndPurposeOnly(t *testing.T) {
	key := NewContentKey()
	for _, plain := range [][]byte{{}, []byte("件名"), bytes.Repeat([]byte("x"), 1<<20)} {
		sealed, err := SealContent(key, aVariant, Content, plain)
		require.NoError(t, err)
		require.Len(t, sealed, len(plain)+Overhead)
		got, err := OpenContent(key, aVariant, Content, sealed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(plain, got))

		_, err = OpenContent(NewContentKey(), aVariant, Content, sealed)
		require.ErrorIs(t, err, ErrSealed)
		for _, v := range otherVariants() {
			_, err = OpenContent(key, v, Content, sealed)
			require.ErrorIs(t, err, ErrSealed)
		}
		_, err = OpenContent(key, aVariant, PartPurpose(0), sealed)
		require.ErrorIs(t, err, ErrSealed)
		sealed[len(sealed)-1] ^= 1
		_, err = OpenContent(key, aVariant, Content, sealed)
		require.ErrorIs(t, err, ErrSealed)
	}
	first, err := SealContent(key, aVariant, PartPurpose(0), []byte("bundle"))
	require.NoError(t, err)
	_, err = OpenContent(key, aVariant, PartPurpose(1), first)
	require.ErrorIs(t, err, ErrSealed, "parts cannot change places")
	for _, n := range []int{0, 16, 31, 33} {
		_, err := SealContent(make([]byte, n), aVariant, Content, nil)
		require.Error(t, err)
		_, err = Wrap(sealingKey(t, DHKEMP256).Public(), make([]byte, n), aVariant, nil, aHolder)
		require.Error(t, err)
	}
}

func TestCommitmentIsOfSaltAndText(t *testing.T) {
	salt := NewSalt()
	require.Len(t, salt, 32)
	require.NotEqual(t, salt, NewSalt())
	c := Commitment(salt, []byte("報告"))
	require.Equal(t, c, Commitment(salt, []byte("報告")))
	require.NotEqual(t, c, Commitment(salt, []byte("報告。")))
	require.NotEqual(t, c, Commitment(NewSalt(), []byte("報告")))
}

func TestKeyFilesNameTheirSuite(t *testing.T) {
	for _, suite := range allSuites() {
		key := sealingKey(t, suite)
		text, err := key.MarshalText()
		require.NoError(t, err)
		require.Contains(t, string(text), suite)
		again, err := ParsePrivateKey(text)
		require.NoError(t, err)
		require.Equal(t, suite, again.Suite())
		require.Equal(t, key.Public().Bytes(), again.Public().Bytes())
		raw, err := key.Bytes()
		require.NoError(t, err)
		again, err = NewPrivateKey(suite, raw)
		require.NoError(t, err)
		require.Equal(t, key.Public().ID(), again.Public().ID())
		for _, bad := range []string{"", "x", strings.Replace(string(text), "-v1", "-v2", 1), strings.Replace(string(text), suite, "AES", 1), string(text[:len(text)-8])} {
			_, err := ParsePrivateKey([]byte(bad))
			require.Error(t, err, "%q", bad)
		}
	}
}

func TestFingerprintIsEightGroupsOfFiveDigits(t *testing.T) {
	require.Regexp(t, `^\d{5}( \d{5}){7}$`, Fingerprint([]byte("key")))
	// SHA-256 of 32 zero bytes begins 66687aad f862bd77: 1718123181 and
	// 4167220599.
	require.True(t, strings.HasPrefix(Fingerprint(make([]byte, 32)), "23181 20599 "))
	seen := map[string]bool{}
	for range 100 {
		seen[sealingKey(t, DHKEMP256).Public().Fingerprint()] = true
	}
	require.Len(t, seen, 100)
}

func TestProfilesAreThoseOfTheConfiguration(t *testing.T) {
	for name, suite := range map[string]string{"": MLKEM768P256, "default": MLKEM768P256, "cryptrec": DHKEMP256} {
		p, err := ProfileOf(name)
		require.NoError(t, err)
		require.Equal(t, suite, p.Suite)
		require.True(t, KnownSealedSuite(SealedSuite(p.Suite)))
		_, err = GenerateKey(p.Suite)
		require.NoError(t, err)
	}
	_, err := ProfileOf("fips")
	require.ErrorContains(t, err, "default or cryptrec")
	require.False(t, KnownSealedSuite(MLKEM768P256))
}

func keyEntry(t testing.TB, suite string) *pb.KeyEntry {
	now := time.Unix(1_800_000_000, 0)
	return &pb.KeyEntry{
		Member: "terminal-a", Node: 1, Suite: suite, PublicKey: sealingKey(t, suite).Public().Bytes(),
		CreateTime: timestamppb.New(now), ExpireTime: timestamppb.New(now.Add(90 * 24 * time.Hour)),
	}
}

func TestKeyEntryHoldsUnderItsOwnersSignatureOnly(t *testing.T) {
	pub, key := newKey(t)
	other, _ := newKey(t)
	for _, suite := range allSuites() {
		e := keyEntry(t, suite)
		env, err := SignKey(key, e)
		require.NoError(t, err)
		got, err := VerifyKey(env, pub)
		require.NoError(t, err)
		require.True(t, proto.Equal(e, got))
		_, err = VerifyKey(env, other)
		require.ErrorIs(t, err, ErrSignature)
	}
	for name, change := range map[string]func(*pb.KeyEntry){
		"no member":     func(e *pb.KeyEntry) { e.Member = "" },
		"no node":       func(e *pb.KeyEntry) { e.Node = 0 },
		"unknown suite": func(e *pb.KeyEntry) { e.Suite = "RSA" },
		"not a key":     func(e *pb.KeyEntry) { e.PublicKey = e.PublicKey[1:] },
		"no begin":      func(e *pb.KeyEntry) { e.CreateTime = nil },
		"no end":        func(e *pb.KeyEntry) { e.ExpireTime = nil },
		"ends first":    func(e *pb.KeyEntry) { e.ExpireTime = timestamppb.New(e.CreateTime.AsTime()) },
		"for ten years": func(e *pb.KeyEntry) { e.ExpireTime = timestamppb.New(e.CreateTime.AsTime().AddDate(10, 0, 0)) },
		"unknown fields": func(e *pb.KeyEntry) {
			e.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
		},
		"unknown fields of a part": func(e *pb.KeyEntry) {
			e.CreateTime.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := keyEntry(t, DHKEMP256)
			change(e)
			env, err := SignKey(key, e)
			require.NoError(t, err)
			_, err = VerifyKey(env, pub)
			require.Error(t, err)
		})
	}
}

// aSealedReport is one content for two holders.
func aSealedReport(t testing.TB, holders int) (*pb.SealedReport, []*PrivateKey) {
	t.Helper()
	key, salt, report := NewContentKey(), NewSalt(), bytes.Repeat([]byte("報告"), 700)
	plain, err := proto.Marshal(&pb.SealedContent{Salt: salt, Report: report})
	require.NoError(t, err)
	content, err := SealContent(key, aVariant, Content, plain)
	require.NoError(t, err)
	digest := sha256.Sum256(content)
	r := &pb.SealedReport{
		Outline: &pb.Outline{ReportId: aVariant.Report, Lane: pb.Lane_LANE_LIVE, Tlp: pb.TlpLabel_TLP_LABEL_RED}, Suite: SealedSuite(MLKEM768P256),
		Variants: []*pb.SealedVariant{{
			Flow: aVariant.Flow, Named: aVariant.Named, Content: &pb.Part{Digest: digest[:], Size: uint64(len(content))}, Commitment: Commitment(salt, report),
		}},
	}
	var keys []*PrivateKey
	for i := range holders {
		own := sealingKey(t, MLKEM768P256)
		h := Holder{Member: "mlit", Person: string(rune('a' + i))}
		sealed, err := Wrap(own.Public(), key, aVariant, digest[:], h)
		require.NoError(t, err)
		r.Wraps = append(r.Wraps, &pb.Wrap{Member: h.Member, Person: h.Person, KeyId: own.Public().ID(), SealedKey: sealed})
		keys = append(keys, own)
	}
	return r, keys
}

func TestSealedReportKeepsItsListOfHolders(t *testing.T) {
	pub, key := newKey(t)
	r, _ := aSealedReport(t, 3)
	env, err := SignSealed(key, r)
	require.NoError(t, err)
	got, err := VerifySealed(env, pb.Lane_LANE_LIVE, pub)
	require.NoError(t, err)
	require.True(t, proto.Equal(r, got))
	_, err = VerifySealed(env, pb.Lane_LANE_EXERCISE, pub)
	require.ErrorIs(t, err, ErrType)

	for name, change := range map[string]func(*pb.SealedReport){
		"a holder less":      func(r *pb.SealedReport) { r.Wraps = r.Wraps[1:] },
		"a holder more":      func(r *pb.SealedReport) { r.Wraps = append(r.Wraps, proto.CloneOf(r.Wraps[0])) },
		"another holder":     func(r *pb.SealedReport) { r.Wraps[0].Person = "x" },
		"another label":      func(r *pb.SealedReport) { r.Outline.Tlp = pb.TlpLabel_TLP_LABEL_CLEAR },
		"another content":    func(r *pb.SealedReport) { r.Variants[0].Content.Digest[0] ^= 1 },
		"another commitment": func(r *pb.SealedReport) { r.Variants[0].Commitment[0] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			changed := proto.CloneOf(r)
			change(changed)
			payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(changed)
			require.NoError(t, err)
			spoilt := proto.CloneOf(env)
			spoilt.Payload = payload
			_, err = VerifySealed(spoilt, pb.Lane_LANE_LIVE, pub)
			require.ErrorIs(t, err, ErrSignature)
		})
	}
	for name, change := range map[string]func(*pb.SealedReport){
		"no suite":                func(r *pb.SealedReport) { r.Suite = "" },
		"no variant":              func(r *pb.SealedReport) { r.Variants = nil },
		"a variant twice":         func(r *pb.SealedReport) { r.Variants = append(r.Variants, r.Variants[0]) },
		"a variant without flow":  func(r *pb.SealedReport) { r.Variants[0].Flow = 0 },
		"a flow of the future":    func(r *pb.SealedReport) { r.Variants[0].Flow = 99 },
		"no content":              func(r *pb.SealedReport) { r.Variants[0].Content = nil },
		"no commitment":           func(r *pb.SealedReport) { r.Variants[0].Commitment = nil },
		"a part without digest":   func(r *pb.SealedReport) { r.Variants[0].Parts = []*pb.Part{{Size: 100}} },
		"a wrap of no variant":    func(r *pb.SealedReport) { r.Wraps[0].Variant = 1 },
		"a wrap for nobody":       func(r *pb.SealedReport) { r.Wraps[0].Member = "" },
		"a wrap for two":          func(r *pb.SealedReport) { r.Wraps[0].Node = 1 },
		"a wrap without a key":    func(r *pb.SealedReport) { r.Wraps[0].SealedKey = nil },
		"a wrap without a key id": func(r *pb.SealedReport) { r.Wraps[0].KeyId = "" },
		"a huge wrap":             func(r *pb.SealedReport) { r.Wraps[0].SealedKey = make([]byte, 5000) },
		"another lane":            func(r *pb.SealedReport) { r.Outline.Lane = pb.Lane_LANE_EXERCISE },
	} {
		t.Run(name, func(t *testing.T) {
			changed := proto.CloneOf(r)
			change(changed)
			payload, err := proto.Marshal(changed)
			require.NoError(t, err)
			_, err = VerifySealed(Sign(key, LiveSealedReportType, payload), pb.Lane_LANE_LIVE, pub)
			require.Error(t, err)
		})
	}
}

func TestInstructionHoldsUnderItsNodesSignatureOnly(t *testing.T) {
	pub, key := newKey(t)
	other, _ := newKey(t)
	i := &pb.Instruction{Lane: pb.Lane_LANE_LIVE, ReportId: aVariant.Report, Action: &pb.Instruction_Forward{Forward: &pb.Forward{Recipients: []*pb.Recipient{{Member: "mlit"}}}}}
	env, err := SignInstruction(key, i)
	require.NoError(t, err)
	got, err := VerifyInstruction(env, pub)
	require.NoError(t, err)
	require.True(t, proto.Equal(i, got))
	_, err = VerifyInstruction(env, other)
	require.ErrorIs(t, err, ErrSignature)
	env.Payload = append(env.Payload, 0)
	_, err = VerifyInstruction(env, pub)
	require.ErrorIs(t, err, ErrSignature)
}

// The whole way of a sealed report in a process that refuses everything that
// FIPS 140 has not approved.
func TestSealingNeedsApprovedAlgorithmsOnly(t *testing.T) {
	if os.Getenv("MINATO_SEAL_FIPS") != "" {
		pub, key := newKey(t)
		for _, suite := range allSuites() {
			env, err := SignKey(key, keyEntry(t, suite))
			require.NoError(t, err)
			_, err = VerifyKey(env, pub)
			require.NoError(t, err)
		}
		r, keys := aSealedReport(t, 2)
		env, err := SignSealed(key, r)
		require.NoError(t, err)
		_, err = VerifySealed(env, pb.Lane_LANE_LIVE, pub)
		require.NoError(t, err)
		w := r.Wraps[1]
		_, err = keys[1].Unwrap(w.SealedKey, aVariant, r.Variants[0].Content.Digest, Holder{Member: w.Member, Person: w.Person})
		require.NoError(t, err)
		return
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(exe, "-test.run=^TestSealingNeedsApprovedAlgorithmsOnly$", "-test.v")
	child.Env = append(os.Environ(), "GODEBUG=fips140=only", "MINATO_SEAL_FIPS=1")
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestSealingNeedsApprovedAlgorithmsOnly")
}

func FuzzOpenAcceptsOnlyWhatWasSealed(f *testing.F) {
	key, own := make([]byte, keySize), (*PrivateKey)(nil)
	own, err := NewPrivateKey(DHKEMP256, append(make([]byte, 31), 1))
	require.NoError(f, err)
	content, err := SealContent(key, aVariant, Content, []byte("the only content"))
	require.NoError(f, err)
	wrap, err := Wrap(own.Public(), key, aVariant, nil, aHolder)
	require.NoError(f, err)
	f.Add(content)
	f.Add(wrap)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if got, err := OpenContent(key, aVariant, Content, sealed); err == nil && string(got) != "the only content" {
			t.Fatalf("opened %q", got)
		}
		if got, err := own.Unwrap(sealed, aVariant, nil, aHolder); err == nil && !bytes.Equal(got, key) {
			t.Fatalf("unwrapped %x", got)
		}
		if k, err := ParsePrivateKey(sealed); err == nil && k.Public().ID() == "" {
			t.Fatal("a key without an id")
		}
	})
}

// A report of 4 KiB for ten persons: key, content, ten wraps, signature.
func BenchmarkSealForTen(b *testing.B) {
	_, key := newKey(b)
	report := bytes.Repeat([]byte("x"), 4096)
	for _, suite := range allSuites() {
		var to []*PublicKey
		for range 10 {
			to = append(to, sealingKey(b, suite).Public())
		}
		b.Run(suite, func(b *testing.B) {
			size := 0
			for b.Loop() {
				content := NewContentKey()
				sealed, err := SealContent(content, aVariant, Content, report)
				require.NoError(b, err)
				digest := sha256.Sum256(sealed)
				r := &pb.SealedReport{Outline: &pb.Outline{ReportId: aVariant.Report, Lane: aVariant.Lane}, Suite: SealedSuite(suite)}
				for _, k := range to {
					w, err := Wrap(k, content, aVariant, digest[:], aHolder)
					require.NoError(b, err)
					r.Wraps = append(r.Wraps, &pb.Wrap{Member: aHolder.Member, Person: aHolder.Person, KeyId: k.ID(), SealedKey: w})
				}
				env, err := SignSealed(key, r)
				require.NoError(b, err)
				size = proto.Size(env) + len(sealed) - len(report)
			}
			b.ReportMetric(float64(size), "overhead-B")
		})
	}
}

func BenchmarkUnwrap(b *testing.B) {
	for _, suite := range allSuites() {
		own := sealingKey(b, suite)
		w, err := Wrap(own.Public(), NewContentKey(), aVariant, nil, aHolder)
		require.NoError(b, err)
		b.Run(suite, func(b *testing.B) {
			for b.Loop() {
				_, err := own.Unwrap(w, aVariant, nil, aHolder)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(len(w)), "wrap-B")
		})
	}
}
