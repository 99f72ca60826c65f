package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"google.golang.org/grpc/codes"

	"minato.example/internal/ca"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// Names in the hub's keys folder. The private key may be kept elsewhere, by
// the official who answers for the policy; the public key stays.
const (
	policyKeyFile    = "policy.key"
	policyPublicFile = "policy.pub"
)

// writePolicyKey makes the port's policy key in a keys folder.
func writePolicyKey(dir string) error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	if err := ca.WriteSecret(filepath.Join(dir, policyKeyFile), private.Seed()); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return renameio.WriteFile(filepath.Join(dir, policyPublicFile), text, 0o600)
}

// ReadPolicyKey reads the private key that signs the port's policy, as
// `minato hub init` made it. A file that others may read is refused.
func ReadPolicyKey(path string) (ed25519.PrivateKey, error) {
	seed, err := ca.ReadSecret(path)
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, &PolicyKeyError{Path: path,
			JA: "方針に署名する鍵ではありません。hub init が作った keys/policy.key を指定してください。",
			EN: "it is not the key that signs the policy. Name the keys/policy.key that hub init made."}
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// PolicyKey is where the policy key of the hub in dir is, unless it is kept
// elsewhere.
func PolicyKey(dir string) string { return filepath.Join(dir, "keys", policyKeyFile) }

// SignPolicy signs a policy file. The envelope shares text's memory.
func SignPolicy(key ed25519.PrivateKey, text []byte) *pb.Envelope {
	return seal.Sign(key, seal.PolicyType, text)
}

// readPolicyKey reads the public key from a keys folder.
func readPolicyKey(dir string) (ed25519.PublicKey, error) {
	path := filepath.Join(dir, policyPublicFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &PolicyKeyError{Path: path,
			JA: "方針の公開鍵がありません。控えから戻してください。鍵を持つ担当者は policy.key と同じ場所に控えを持っています。",
			EN: "the public key of the policy is missing. Restore it from a copy; whoever holds policy.key has one beside it."}
	}
	if err != nil {
		return nil, err
	}
	broken := &PolicyKeyError{Path: path,
		JA: "Ed25519 の公開鍵 (PEM) ではありません。控えから戻してください。",
		EN: "it is not an Ed25519 public key (PEM). Restore it from a copy."}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, broken
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, broken
	}
	public, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, broken
	}
	private, err := ReadPolicyKey(filepath.Join(dir, policyKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return public, nil
	}
	if err != nil {
		return nil, err
	}
	if !public.Equal(private.Public()) {
		return nil, &PolicyKeyError{Path: path,
			JA: "policy.key と policy.pub が対になっていません。どちらかを控えから戻してください。",
			EN: "policy.key and policy.pub are not a pair. Restore one of them from a copy."}
	}
	return public, nil
}

// PolicyKeyError is a key of the policy that cannot be used.
type PolicyKeyError struct {
	Path   string
	JA, EN string
}

func (e *PolicyKeyError) Error() string { return e.Path + ": " + e.EN }

// Japanese is the message for people.
func (e *PolicyKeyError) Japanese() string { return e.Path + ": " + e.JA }

// SetPolicy puts a signed policy in force. A policy with a mistake, without
// the signature of the port's policy key, or for a role that nobody holds is
// refused and the former stays. A check changes nothing and may come without a
// signature.
func (h *Hub) SetPolicy(ctx context.Context, req *pb.SetPolicyRequest) (*pb.SetPolicyResponse, error) {
	env := req.GetPolicy()
	if !req.GetCheck() || len(env.GetSignatures()) > 0 {
		signed, err := seal.Only(env, seal.PolicyType, h.policyKey)
		if err != nil {
			return nil, rpc.Refuse(codes.PermissionDenied, "POLICY_SIGNATURE", "policy",
				fmt.Sprintf("方針の署名を確かめられません。この港の方針の鍵 (%s) で署名してください: minato hub policy apply FILE --key policy.key", seal.KeyID(h.policyKey)),
				fmt.Sprintf("The signature of the policy does not verify. Sign it with this port's policy key (%s): minato hub policy apply FILE --key policy.key", seal.KeyID(h.policyKey)))
		}
		env = signed
	}
	p, err := policyOf(env)
	if err != nil {
		return nil, refusePolicy(codes.InvalidArgument, err)
	}
	err = h.change(ctx, func(d *directory) (*pb.DirectoryChange, error) {
		if err := p.at(time.Now()).vacant(d); err != nil {
			return nil, refusePolicy(codes.FailedPrecondition, err)
		}
		if req.GetCheck() {
			return nil, nil
		}
		return &pb.DirectoryChange{Change: &pb.DirectoryChange_PolicySet{PolicySet: &pb.PolicySet{Policy: env}}}, nil
	})
	if err != nil {
		return nil, err
	}
	if !req.GetCheck() {
		h.log.InfoContext(ctx, "policy set", "version", p.version, "key", p.signer)
	}
	return &pb.SetPolicyResponse{Version: p.version}, nil
}

// refusePolicy is the refusal of a policy: one violation for each mistake.
func refusePolicy(code codes.Code, err error) error {
	wrong, ok := errors.AsType[*PolicyError](err)
	if !ok {
		return err
	}
	r := &rpc.Refusal{Code: code, Reason: wrong.Faults[0].Reason}
	for _, f := range wrong.Faults {
		r.Violations = append(r.Violations, rpc.Violation{
			Field: fmt.Sprintf("%s:%d", wrong.Name, f.Line), Reason: f.Reason, Japanese: f.Japanese, English: f.English,
		})
	}
	return r
}

// GetPolicy reads the policy in force.
func (h *Hub) GetPolicy(context.Context, *pb.GetPolicyRequest) (*pb.GetPolicyResponse, error) {
	p := h.directory().policy
	return &pb.GetPolicyResponse{Version: p.version, Policy: p.text, KeyId: p.signer}, nil
}
