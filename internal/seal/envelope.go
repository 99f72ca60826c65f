// Package seal signs and seals: DSSE signatures over exact bytes, and the
// encryption of a delivery to the node that it is for. It uses the standard
// library only, with algorithms of the 電子政府推奨暗号リスト.
package seal

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	pb "minato.example/proto/minato/v1"
)

// Payload types. A signature for one type is never valid for another, so an
// exercise cannot be passed off as the real thing.
const (
	LiveReportType           = "application/vnd.minato.report.live.v1"
	ExerciseReportType       = "application/vnd.minato.report.exercise.v1"
	LiveCopyType             = "application/vnd.minato.copy.live.v1"
	ExerciseCopyType         = "application/vnd.minato.copy.exercise.v1"
	LiveSealedReportType     = "application/vnd.minato.sealed-report.live.v1"
	ExerciseSealedReportType = "application/vnd.minato.sealed-report.exercise.v1"
	LiveSealedCopyType       = "application/vnd.minato.sealed-copy.live.v1"
	ExerciseSealedCopyType   = "application/vnd.minato.sealed-copy.exercise.v1"
	SubmitReceiptType        = "application/vnd.minato.submit-receipt.v1"
	DeliveryReceiptType      = "application/vnd.minato.delivery-receipt.v1"
	KeyType                  = "application/vnd.minato.key.v1"
	InstructionType          = "application/vnd.minato.instruction.v1"
	PolicyType               = "application/vnd.minato.policy.v1"
)

// maxSignatures bounds the work that an envelope can ask of Verify.
const maxSignatures = 4

// What Verify answers; test with errors.Is.
var (
	// ErrType: the envelope says that it carries something else.
	ErrType = errors.New("payload type differs")
	// ErrUnsigned: no signature, or more than 4.
	ErrUnsigned = errors.New("number of signatures is not 1 to 4")
	// ErrSignature: no signature by the expected key verifies.
	ErrSignature = errors.New("signature does not verify")
)

// ReportType is the payload type of reports of a lane. A lane that is none has
// a type that no signature carries.
func ReportType(lane pb.Lane) string { return byLane(lane, LiveReportType, ExerciseReportType) }

// CopyType is the payload type of copies that the hub builds from a report of
// a lane and signs.
func CopyType(lane pb.Lane) string { return byLane(lane, LiveCopyType, ExerciseCopyType) }

// SealedCopyType is the payload type of the one variant of a sealed report that
// the hub passes on without its source.
func SealedCopyType(lane pb.Lane) string {
	return byLane(lane, LiveSealedCopyType, ExerciseSealedCopyType)
}

// SealedReportType is the payload type of sealed reports of a lane.
func SealedReportType(lane pb.Lane) string {
	return byLane(lane, LiveSealedReportType, ExerciseSealedReportType)
}

func byLane(lane pb.Lane, live, exercise string) string {
	switch lane {
	case pb.Lane_LANE_LIVE:
		return live
	case pb.Lane_LANE_EXERCISE:
		return exercise
	}
	return ""
}

// Sign signs exactly these bytes. The envelope shares payload's memory.
func Sign(key ed25519.PrivateKey, payloadType string, payload []byte) *pb.Envelope {
	return &pb.Envelope{
		PayloadType: payloadType,
		Payload:     payload,
		Signatures: []*pb.Signature{{
			KeyId:     KeyID(key.Public().(ed25519.PublicKey)),
			Signature: ed25519.Sign(key, PAE(payloadType, payload)),
		}},
	}
}

// Verify returns the payload when the envelope is of this very type and one
// of its signatures is by key. The algorithm comes from the registered key,
// never from the envelope. Parse only what Verify returns.
func Verify(env *pb.Envelope, payloadType string, key ed25519.PublicKey) ([]byte, error) {
	only, err := Only(env, payloadType, key)
	return only.GetPayload(), err
}

// Only is Verify for an envelope that is kept: it returns one with nothing but
// what was verified, the payload and the signature by key. What else came with
// it goes no further.
func Only(env *pb.Envelope, payloadType string, key ed25519.PublicKey) (*pb.Envelope, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("public key has %d bytes, not %d", len(key), ed25519.PublicKeySize)
	}
	if payloadType == "" || env.GetPayloadType() != payloadType {
		return nil, fmt.Errorf("%w: %.80q instead of %q", ErrType, env.GetPayloadType(), payloadType)
	}
	if n := len(env.GetSignatures()); n < 1 || n > maxSignatures {
		return nil, fmt.Errorf("%w: %d", ErrUnsigned, n)
	}
	id, signed := KeyID(key), PAE(payloadType, env.GetPayload())
	for _, s := range env.GetSignatures() {
		if s.GetKeyId() == id && len(s.GetSignature()) == ed25519.SignatureSize && ed25519.Verify(key, signed, s.GetSignature()) {
			return &pb.Envelope{
				PayloadType: payloadType, Payload: env.GetPayload(),
				Signatures: []*pb.Signature{{KeyId: id, Signature: s.GetSignature()}},
			}, nil
		}
	}
	return nil, fmt.Errorf("%w with key %s", ErrSignature, id)
}

// KeyID names a key: the first 16 hexadecimal digits of its SHA-256.
func KeyID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// PAE is the pre-authentication encoding of the DSSE protocol 1.0.2:
// "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body.
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len("DSSEv1")+len(payloadType)+len(payload)+44)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}
