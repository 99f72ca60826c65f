package seal

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "minato.example/proto/minato/v1"
)

// ErrMalformed: the signature holds, but what it signs is no sound message.
var ErrMalformed = errors.New("malformed")

// MaxKeyLife is how long a key may be sealed to.
const MaxKeyLife = 366 * 24 * time.Hour

// SignKey signs an entry of the key directory with the key of its node.
func SignKey(signing ed25519.PrivateKey, e *pb.KeyEntry) (*pb.Envelope, error) {
	return signMessage(signing, KeyType, e)
}

// VerifyKey opens an entry of the key directory that the node with this key has
// signed. What it returns is complete in itself: owner, a suite that is known,
// a key of that suite, a life of at most MaxKeyLife. Whether the owner is the
// member of that node is for the caller to check.
func VerifyKey(env *pb.Envelope, signer ed25519.PublicKey) (*pb.KeyEntry, error) {
	e := new(pb.KeyEntry)
	if err := openMessage(env, KeyType, signer, e); err != nil {
		return nil, err
	}
	if e.GetMember() == "" || e.GetNode() == 0 {
		return nil, fmt.Errorf("%w key entry: no owner", ErrMalformed)
	}
	if _, err := NewPublicKey(e.GetSuite(), e.GetPublicKey()); err != nil {
		return nil, err
	}
	begin, end := e.GetCreateTime(), e.GetExpireTime()
	if begin.CheckValid() != nil || end.CheckValid() != nil || !end.AsTime().After(begin.AsTime()) || end.AsTime().Sub(begin.AsTime()) > MaxKeyLife {
		return nil, fmt.Errorf("%w key entry: its times", ErrMalformed)
	}
	return e, nil
}

// SignInstruction signs what a member asks for a report that it holds.
func SignInstruction(signing ed25519.PrivateKey, i *pb.Instruction) (*pb.Envelope, error) {
	return signMessage(signing, InstructionType, i)
}

// VerifyInstruction opens an instruction that the node with this key has
// signed.
func VerifyInstruction(env *pb.Envelope, signer ed25519.PublicKey) (*pb.Instruction, error) {
	i := new(pb.Instruction)
	if err := openMessage(env, InstructionType, signer, i); err != nil {
		return nil, err
	}
	return i, nil
}

// SignSealed signs a sealed report. The signature covers everything: outline,
// digests of the ciphertexts, commitments, and the list of those who may open.
func SignSealed(signing ed25519.PrivateKey, r *pb.SealedReport) (*pb.Envelope, error) {
	t := SealedReportType(r.GetOutline().GetLane())
	if t == "" {
		return nil, fmt.Errorf("%w sealed report: no lane", ErrMalformed)
	}
	return signMessage(signing, t, r)
}

// VerifySealed opens the header of a sealed report of a lane. It holds what
// can be seen without a key: each wrap is of a variant and names its holder,
// each variant has a flow, digests and a commitment, and no two are alike.
func VerifySealed(env *pb.Envelope, lane pb.Lane, signer ed25519.PublicKey) (*pb.SealedReport, error) {
	return verifySealed(env, SealedReportType(lane), lane, signer)
}

// VerifySealedCopy opens the header of a sealed copy, which the hub signs in
// the place of the source: one variant and the wraps of one member.
func VerifySealedCopy(env *pb.Envelope, lane pb.Lane, hub ed25519.PublicKey) (*pb.SealedReport, error) {
	return verifySealed(env, SealedCopyType(lane), lane, hub)
}

func verifySealed(env *pb.Envelope, payloadType string, lane pb.Lane, signer ed25519.PublicKey) (*pb.SealedReport, error) {
	r := new(pb.SealedReport)
	if err := openMessage(env, payloadType, signer, r); err != nil {
		return nil, err
	}
	if r.GetOutline().GetLane() != lane {
		return nil, fmt.Errorf("%w sealed report: its lane", ErrMalformed)
	}
	if !KnownSealedSuite(r.GetSuite()) {
		return nil, fmt.Errorf("%w: %.60q", ErrSuite, r.GetSuite())
	}
	if len(r.GetVariants()) == 0 {
		return nil, fmt.Errorf("%w sealed report: no variant", ErrMalformed)
	}
	if err := CheckSealed(r.GetVariants(), r.GetWraps(), 0); err != nil {
		return nil, err
	}
	return r, nil
}

// Bounds of a sealed report.
const (
	maxVariants = 8
	maxWraps    = 5000
	maxWrapSize = 4096
)

// CheckSealed holds variants and wraps against each other. before is the number
// of variants that the report had already: the wraps of an instruction count on
// from there.
func CheckSealed(variants []*pb.SealedVariant, wraps []*pb.Wrap, before int) error {
	if len(variants)+before > maxVariants || len(wraps) > maxWraps {
		return fmt.Errorf("%w sealed report: %d variants, %d wraps", ErrMalformed, len(variants)+before, len(wraps))
	}
	type form struct {
		flow  pb.Flow
		named bool
	}
	seen := map[form]bool{}
	for _, v := range variants {
		f := form{v.GetFlow(), v.GetNamed()}
		if _, known := pb.Flow_name[int32(f.flow)]; !known || f.flow == pb.Flow_FLOW_UNSPECIFIED || seen[f] {
			return fmt.Errorf("%w sealed report: variants", ErrMalformed)
		}
		seen[f] = true
		if len(v.GetCommitment()) != 32 {
			return fmt.Errorf("%w sealed report: commitment", ErrMalformed)
		}
		for _, p := range append([]*pb.Part{v.GetContent()}, v.GetParts()...) {
			if len(p.GetDigest()) != 32 || p.GetSize() <= Overhead {
				return fmt.Errorf("%w sealed report: part", ErrMalformed)
			}
		}
	}
	for _, w := range wraps {
		if w.GetMember() == "" || (w.GetPerson() == "") == (w.GetNode() == 0) || len(w.GetKeyId()) != 16 ||
			len(w.GetSealedKey()) == 0 || len(w.GetSealedKey()) > maxWrapSize || int(w.GetVariant()) >= len(variants)+before {
			return fmt.Errorf("%w sealed report: wraps", ErrMalformed)
		}
	}
	return nil
}

// SealedSuite is the suite that a sealed report names: that of its sender's
// profile, and the cipher of the contents. Each wrap is of the suite of its
// key.
func SealedSuite(suite string) string { return suite + "+" + ContentCipher }

// KnownSealedSuite reports whether this version opens such a report.
func KnownSealedSuite(s string) bool {
	for suite := range suites {
		if s == SealedSuite(suite) {
			return true
		}
	}
	return false
}

func signMessage(signing ed25519.PrivateKey, payloadType string, m proto.Message) (*pb.Envelope, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", payloadType, err)
	}
	return Sign(signing, payloadType, payload), nil
}

// openMessage verifies, then parses. A field that this version does not know
// is refused: it may say something that matters.
func openMessage(env *pb.Envelope, payloadType string, signer ed25519.PublicKey, into proto.Message) error {
	payload, err := Verify(env, payloadType, signer)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(payload, into); err != nil {
		return fmt.Errorf("%w %s", ErrMalformed, payloadType)
	}
	if unknown(into.ProtoReflect()) {
		return fmt.Errorf("%w %s: a field that this version does not know", ErrMalformed, payloadType)
	}
	return nil
}

// unknown reports whether a message has a field that nobody here can judge.
func unknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				found = found || unknown(v.List().Get(i).Message())
			}
		default:
			found = found || unknown(v.Message())
		}
		return !found
	})
	return found
}
