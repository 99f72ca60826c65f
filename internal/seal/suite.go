package seal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Ids of the suites. Every suite is HPKE (RFC 9180) in base mode with
// HKDF-SHA256 and AES-256-GCM; they differ in how the key is agreed.
const (
	// MLKEM768P256 joins ML-KEM-768 with P-256: what is recorded today stays
	// closed to a quantum computer, and P-256 alone holds should ML-KEM fall
	// (draft-ietf-hpke-pq, KEM 0x0050).
	MLKEM768P256 = "MLKEM768-P256"
	// DHKEMP256 is P-256 alone, for an auditor who wants nothing but parts of
	// the 電子政府推奨暗号リスト (RFC 9180, KEM 0x0010).
	DHKEMP256 = "DHKEM-P256"
)

// ContentCipher seals contents and parts, whatever suite wraps their keys.
const ContentCipher = "A256GCM"

// suites are all that this version opens.
var suites = map[string]hpke.KEM{
	MLKEM768P256: hpke.MLKEM768P256(),
	DHKEMP256:    hpke.DHKEM(ecdh.P256()),
}

// What keys and seals answer; test with errors.Is.
var (
	// ErrSuite: a suite that this version does not know.
	ErrSuite = errors.New("suite is not known")
	// ErrKey: bytes that are no key of the suite.
	ErrKey = errors.New("not a key of the suite")
)

// Profile is a choice of algorithms for a whole hub or node.
type Profile struct {
	// Name as in hub.toml and node.toml.
	Name string
	// Suite of new keys. Keys of the other suites are sealed to and opened all
	// the same: the owner of a key chooses.
	Suite string
	// Groups for TLS 1.3; none means those of the standard library.
	Groups []tls.CurveID
}

// profiles are the profiles by name. Both keep to the 電子政府推奨暗号リスト where
// it has something; cryptrec also leaves X25519 out of TLS.
var profiles = map[string]Profile{
	"default":  {Name: "default", Suite: MLKEM768P256},
	"cryptrec": {Name: "cryptrec", Suite: DHKEMP256, Groups: []tls.CurveID{tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.CurveP256, tls.CurveP384}},
}

// ProfileOf finds a profile; the empty name is the default one.
func ProfileOf(name string) (Profile, error) {
	if name == "" {
		name = "default"
	}
	p, ok := profiles[name]
	if !ok {
		return Profile{}, fmt.Errorf("crypto = %q: default or cryptrec", name)
	}
	return p, nil
}

// PublicKey is a key to seal to.
type PublicKey struct {
	suite string
	key   hpke.PublicKey
}

// PrivateKey opens what was sealed to its public key.
type PrivateKey struct {
	suite string
	key   hpke.PrivateKey
}

// GenerateKey makes a key of a suite.
func GenerateKey(suite string) (*PrivateKey, error) {
	kem, ok := suites[suite]
	if !ok {
		return nil, fmt.Errorf("%w: %.40q", ErrSuite, suite)
	}
	key, err := kem.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make a key of %s: %w", suite, err)
	}
	return &PrivateKey{suite: suite, key: key}, nil
}

// NewPrivateKey reads the private key of a suite from what Bytes gave.
func NewPrivateKey(suite string, raw []byte) (*PrivateKey, error) {
	kem, ok := suites[suite]
	if !ok {
		return nil, fmt.Errorf("%w: %.40q", ErrSuite, suite)
	}
	key, err := kem.NewPrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrKey, suite, err)
	}
	return &PrivateKey{suite: suite, key: key}, nil
}

// NewPublicKey reads the public key of a suite from what Bytes gave.
func NewPublicKey(suite string, raw []byte) (*PublicKey, error) {
	kem, ok := suites[suite]
	if !ok {
		return nil, fmt.Errorf("%w: %.40q", ErrSuite, suite)
	}
	key, err := kem.NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrKey, suite, err)
	}
	return &PublicKey{suite: suite, key: key}, nil
}

// Suite is the id of the key's suite.
func (k *PublicKey) Suite() string { return k.suite }

// Bytes is the key as RFC 9180 writes it.
func (k *PublicKey) Bytes() []byte { return k.key.Bytes() }

// ID is KeyID of the key.
func (k *PublicKey) ID() string { return KeyID(k.Bytes()) }

// Fingerprint is Fingerprint of the key.
func (k *PublicKey) Fingerprint() string { return Fingerprint(k.Bytes()) }

// Suite is the id of the key's suite.
func (k *PrivateKey) Suite() string { return k.suite }

// Public is the key to seal to.
func (k *PrivateKey) Public() *PublicKey {
	return &PublicKey{suite: k.suite, key: k.key.PublicKey()}
}

// Bytes is the key as RFC 9180 writes it.
func (k *PrivateKey) Bytes() ([]byte, error) { return k.key.Bytes() }

// keyFile starts the text of a key file, then come suite and key.
const keyFile = "minato-seal-key-v1"

// MarshalText is the key as a line of text that names its suite.
func (k *PrivateKey) MarshalText() ([]byte, error) {
	raw, err := k.key.Bytes()
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s %s %s\n", keyFile, k.suite, base64.StdEncoding.EncodeToString(raw)), nil
}

// ParsePrivateKey reads what MarshalText wrote.
func ParsePrivateKey(text []byte) (*PrivateKey, error) {
	words := strings.Fields(string(text))
	if len(words) != 3 || words[0] != keyFile {
		return nil, fmt.Errorf("%w: no line %q", ErrKey, keyFile+" SUITE KEY")
	}
	raw, err := base64.StdEncoding.DecodeString(words[2])
	if err != nil {
		return nil, fmt.Errorf("%w %.40q: not base64", ErrKey, words[1])
	}
	return NewPrivateKey(words[1], raw)
}

// Fingerprint is a key for the telephone: eight groups of five digits of its
// SHA-256, which read the same in every language. Two keys share one by chance
// once in 10^40.
func Fingerprint(publicKey []byte) string {
	sum := sha256.Sum256(publicKey)
	groups := make([]string, 0, len(sum)/4)
	for i := 0; i < len(sum); i += 4 {
		groups = append(groups, fmt.Sprintf("%05d", binary.BigEndian.Uint32(sum[i:])%100_000))
	}
	return strings.Join(groups, " ")
}
