package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	pb "minato.example/proto/minato/v1"
)

func newKey(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return pub, key
}

// The example of the DSSE protocol, section "Test Vectors".
func TestEncodingIsThatOfTheDSSEProtocol(t *testing.T) {
	require.Equal(t, "DSSEv1 29 http://example.com/HelloWorld 11 hello world",
		string(PAE("http://example.com/HelloWorld", []byte("hello world"))))
	require.Equal(t, "DSSEv1 0  0 ", string(PAE("", nil)))
	require.Equal(t, "DSSEv1 3 港 6 日本", string(PAE("港", []byte("日本"))), "lengths are in bytes")
}

func TestEncodingsOfDifferentThingsDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typeA, typeB := rapid.String().Draw(t, "type a"), rapid.String().Draw(t, "type b")
		a, b := rapid.SliceOf(rapid.Byte()).Draw(t, "a"), rapid.SliceOf(rapid.Byte()).Draw(t, "b")
		same := typeA == typeB && bytes.Equal(a, b)
		if got := bytes.Equal(PAE(typeA, a), PAE(typeB, b)); got != same {
			t.Fatalf("PAE equal = %v", got)
		}
	})
}

func TestSignedBytesComeBackAsTheyWere(t *testing.T) {
	pub, key := newKey(t)
	for _, payload := range [][]byte{nil, {}, []byte("報告"), bytes.Repeat([]byte{0}, 1<<20)} {
		env := Sign(key, LiveReportType, payload)
		got, err := Verify(env, LiveReportType, pub)
		require.NoError(t, err)
		require.True(t, bytes.Equal(payload, got))

		wire, err := proto.Marshal(env)
		require.NoError(t, err)
		again := new(pb.Envelope)
		require.NoError(t, proto.Unmarshal(wire, again))
		got, err = Verify(again, LiveReportType, pub)
		require.NoError(t, err)
		require.True(t, bytes.Equal(payload, got))
	}
}

func TestKeyIDIsTheStartOfTheKeysDigest(t *testing.T) {
	// SHA-256 of 32 zero bytes begins 66687aadf862bd77.
	require.Equal(t, "66687aadf862bd77", KeyID(make(ed25519.PublicKey, 32)))
}

func TestOneTypeNeverPassesForAnother(t *testing.T) {
	pub, key := newKey(t)
	types := []string{
		LiveReportType, ExerciseReportType, LiveCopyType, ExerciseCopyType, LiveSealedReportType, ExerciseSealedReportType,
		LiveSealedCopyType, ExerciseSealedCopyType,
		SubmitReceiptType, DeliveryReceiptType, KeyType, InstructionType, PolicyType,
	}
	for _, signed := range types {
		for _, wanted := range append(types, "") {
			env := Sign(key, signed, []byte("x"))
			_, err := Verify(env, wanted, pub)
			if signed == wanted {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, ErrType)
			env.PayloadType = wanted // relabelled on the way
			_, err = Verify(env, wanted, pub)
			require.Error(t, err)
		}
	}
	_, err := Verify(Sign(key, "", []byte("x")), "", pub)
	require.ErrorIs(t, err, ErrType)
}

func TestNothingButTheSignedBytesVerifies(t *testing.T) {
	pub, key := newKey(t)
	other, otherKey := newKey(t)
	payload := []byte("a report")
	good := Sign(key, LiveReportType, payload)
	tests := map[string]struct {
		change func(*pb.Envelope)
		key    ed25519.PublicKey
		want   error
	}{
		"altered payload":     {func(e *pb.Envelope) { e.Payload[0] ^= 1 }, pub, ErrSignature},
		"longer payload":      {func(e *pb.Envelope) { e.Payload = append(e.Payload, 0) }, pub, ErrSignature},
		"wrong key":           {func(*pb.Envelope) {}, other, ErrSignature},
		"key id of another":   {func(e *pb.Envelope) { e.Signatures[0].KeyId = KeyID(other) }, pub, ErrSignature},
		"signed by another":   {func(e *pb.Envelope) { e.Signatures = Sign(otherKey, LiveReportType, payload).Signatures }, pub, ErrSignature},
		"another, our key id": {func(e *pb.Envelope) { e.Signatures[0].Signature = ed25519.Sign(otherKey, PAE(LiveReportType, payload)) }, pub, ErrSignature},
		"no key id":           {func(e *pb.Envelope) { e.Signatures[0].KeyId = "" }, pub, ErrSignature},
		"no signatures":       {func(e *pb.Envelope) { e.Signatures = nil }, pub, ErrUnsigned},
		"nil signature":       {func(e *pb.Envelope) { e.Signatures[0] = nil }, pub, ErrSignature},
		"empty signature":     {func(e *pb.Envelope) { e.Signatures[0].Signature = nil }, pub, ErrSignature},
		"short signature":     {func(e *pb.Envelope) { e.Signatures[0].Signature = e.Signatures[0].Signature[:63] }, pub, ErrSignature},
		"long signature":      {func(e *pb.Envelope) { e.Signatures[0].Signature = append(e.Signatures[0].Signature, 0) }, pub, ErrSignature},
		"signature of the bare payload": {func(e *pb.Envelope) {
			e.Signatures[0].Signature = ed25519.Sign(key, payload)
		}, pub, ErrSignature},
		"five signatures": {func(e *pb.Envelope) {
			for len(e.Signatures) < 5 {
				e.Signatures = append(e.Signatures, e.Signatures[0])
			}
		}, pub, ErrUnsigned},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			env := proto.CloneOf(good)
			test.change(env)
			got, err := Verify(env, LiveReportType, test.key)
			require.ErrorIs(t, err, test.want)
			require.Nil(t, got)
		})
	}
	_, err := Verify(nil, LiveReportType, pub)
	require.Error(t, err)
	for _, key := range []ed25519.PublicKey{nil, pub[:31], append(bytes.Clone(pub), 0)} {
		_, err = Verify(good, LiveReportType, key)
		require.ErrorContains(t, err, "public key has")
	}
	_, err = Verify(good, LiveReportType, pub)
	require.NoError(t, err)
}

// Two encodings of one message are two different signed things.
func TestReMarshalledPayloadDoesNotVerify(t *testing.T) {
	pub, key := newKey(t)
	r := &pb.SubmitReceipt{ReportId: "r", AcceptTime: &timestamppb.Timestamp{Seconds: 1}}
	payload, err := proto.Marshal(r)
	require.NoError(t, err)
	// The same message, written in an order that no marshaller gives.
	tail, err := proto.Marshal(&pb.SubmitReceipt{AcceptTime: r.AcceptTime})
	require.NoError(t, err)
	head, err := proto.Marshal(&pb.SubmitReceipt{ReportId: r.ReportId})
	require.NoError(t, err)
	odd := append(tail, head...)
	same := new(pb.SubmitReceipt)
	require.NoError(t, proto.Unmarshal(odd, same))
	require.True(t, proto.Equal(r, same))

	env := Sign(key, SubmitReceiptType, odd)
	_, err = Verify(env, SubmitReceiptType, pub)
	require.NoError(t, err)
	env.Payload = payload
	_, err = Verify(env, SubmitReceiptType, pub)
	require.ErrorIs(t, err, ErrSignature)
}

func TestOneOfSeveralSignaturesSuffices(t *testing.T) {
	pub, key := newKey(t)
	_, otherKey := newKey(t)
	env := Sign(otherKey, LiveReportType, []byte("x"))
	env.Signatures = append(env.Signatures, Sign(key, LiveReportType, []byte("x")).Signatures...)
	_, err := Verify(env, LiveReportType, pub)
	require.NoError(t, err)
}

func FuzzVerifyAcceptsOnlyWhatWasSigned(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	pub := key.Public().(ed25519.PublicKey)
	signed := []byte("the only report ever signed with this key")
	wire, err := proto.Marshal(Sign(key, LiveReportType, signed))
	require.NoError(f, err)
	f.Add(wire)
	f.Add(wire[:len(wire)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, wire []byte) {
		env := new(pb.Envelope)
		if proto.Unmarshal(wire, env) != nil {
			return
		}
		if got, err := Verify(env, LiveReportType, pub); err == nil && !bytes.Equal(got, signed) {
			t.Fatalf("accepted %q", got)
		}
		if _, err := Verify(env, ExerciseReportType, pub); err == nil {
			t.Fatal("accepted as an exercise")
		}
	})
}

func TestSealedMessageOpensOnlyInItsSessionAndDirection(t *testing.T) {
	key := make([]byte, 32)
	rand.Read(key)
	for _, plain := range [][]byte{{}, []byte("配信"), bytes.Repeat([]byte("x"), 1<<20)} {
		sealed, err := SealMessage(key, "s1", "to-node", plain)
		require.NoError(t, err)
		require.Len(t, sealed, len(plain)+28)
		got, err := OpenMessage(key, "s1", "to-node", sealed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(plain, got))

		for _, other := range [][2]string{{"s2", "to-node"}, {"s1", "to-hub"}, {"s1t", "o-node"}, {"", "s1to-node"}} {
			_, err = OpenMessage(key, other[0], other[1], sealed)
			require.ErrorIs(t, err, ErrSealed)
		}
		wrong := bytes.Clone(key)
		wrong[31] ^= 1
		_, err = OpenMessage(wrong, "s1", "to-node", sealed)
		require.ErrorIs(t, err, ErrSealed)
	}
	a, err := SealMessage(key, "s", "d", []byte("x"))
	require.NoError(t, err)
	b, err := SealMessage(key, "s", "d", []byte("x"))
	require.NoError(t, err)
	require.NotEqual(t, a, b, "every message has a nonce of its own")
}

func TestEveryFlippedBitAndTruncationIsDetected(t *testing.T) {
	key := make([]byte, 32)
	sealed, err := SealMessage(key, "s", "d", []byte("content"))
	require.NoError(t, err)
	for i := range len(sealed) * 8 {
		sealed[i/8] ^= 1 << (i % 8)
		_, err := OpenMessage(key, "s", "d", sealed)
		require.ErrorIs(t, err, ErrSealed)
		sealed[i/8] ^= 1 << (i % 8)
	}
	for i := range len(sealed) {
		_, err := OpenMessage(key, "s", "d", sealed[:i])
		require.ErrorIs(t, err, ErrSealed)
	}
}

func TestOnlyKeysOf256BitsSeal(t *testing.T) {
	for _, n := range []int{0, 16, 24, 31, 33} {
		_, err := SealMessage(make([]byte, n), "s", "d", nil)
		require.Error(t, err)
		_, err = OpenMessage(make([]byte, n), "s", "d", make([]byte, 28))
		require.Error(t, err)
	}
}
