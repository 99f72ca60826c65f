package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	pb "minato.example/proto/minato/v1"
)

// keySize is that of AES-256.
const keySize = 32

// Overhead is by how many bytes a seal is longer than what it seals: nonce and
// tag.
const Overhead = 12 + 16

// Variant says which form of which report a seal belongs to.
type Variant struct {
	Report string
	Lane   pb.Lane
	Flow   pb.Flow
	Named  bool
}

// Content is the purpose of the seal around a marshalled SealedContent.
const Content = "content"

// PartPurpose is the purpose of the nth part, from 0, in the order of
// Report.Parts.
func PartPurpose(n int) string { return fmt.Sprintf("part %d", n) }

// NewContentKey makes the key of one variant.
func NewContentKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key)
	return key
}

// SealContent seals one thing of a variant with AES-256-GCM under the variant's
// key. A random nonce stands in front. Variant and purpose are bound: the seal
// opens as nothing else and in no other report.
func SealContent(key []byte, v Variant, purpose string, plaintext []byte) ([]byte, error) {
	aead, err := contentCipher(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plaintext, encode("minato content v1", v.fields(purpose)...)), nil
}

// OpenContent opens what SealContent sealed with the same key, variant and
// purpose.
func OpenContent(key []byte, v Variant, purpose string, sealed []byte) ([]byte, error) {
	aead, err := contentCipher(key)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, sealed, encode("minato content v1", v.fields(purpose)...))
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

func contentCipher(key []byte) (cipher.AEAD, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("content key has %d bytes, not %d", len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Commitment is SHA-256 of salt and plaintext. The salt travels inside the
// seal, so the commitment says nothing to those who cannot open; whoever can
// may show both and prove what was signed.
func Commitment(salt, plaintext []byte) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write(plaintext)
	return h.Sum(nil)
}

// NewSalt makes the salt of a commitment.
func NewSalt() []byte {
	salt := make([]byte, 32)
	rand.Read(salt)
	return salt
}

// Holder is whose key a wrap is for: a node of a member, or a person.
type Holder struct {
	Member string
	Person string // empty for a node
	Node   uint32 // 0 for a person
}

// Wrap seals a variant's key to one public key (HPKE, the key's own suite).
// Variant, digest of the sealed content and holder are bound in info, so that
// a wrap opens in no other report and for no other recipient.
func Wrap(to *PublicKey, key []byte, v Variant, contentDigest []byte, h Holder) ([]byte, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("content key has %d bytes, not %d", len(key), keySize)
	}
	return hpke.Seal(to.key, hpke.HKDFSHA256(), hpke.AES256GCM(), wrapInfo(to, v, contentDigest, h), key)
}

// Unwrap opens what Wrap sealed to this key for the same variant, content and
// holder.
func (k *PrivateKey) Unwrap(sealed []byte, v Variant, contentDigest []byte, h Holder) ([]byte, error) {
	key, err := hpke.Open(k.key, hpke.HKDFSHA256(), hpke.AES256GCM(), wrapInfo(k.Public(), v, contentDigest, h), sealed)
	if err != nil || len(key) != keySize {
		return nil, ErrSealed
	}
	return key, nil
}

func wrapInfo(to *PublicKey, v Variant, contentDigest []byte, h Holder) []byte {
	sum := sha256.Sum256(encode("minato wrap binding v1", append(v.fields(to.suite), string(contentDigest), h.Member, h.Person, fmt.Sprint(h.Node))...))
	return append([]byte("minato wrap v1|"), sum[:]...)
}

// fields are what is bound of a variant, and more.
func (v Variant) fields(more ...string) []string {
	return append([]string{v.Report, v.Lane.String(), v.Flow.String(), fmt.Sprint(v.Named)}, more...)
}

// encode gives lengths, so that no two lists share an encoding.
func encode(domain string, fields ...string) []byte {
	b := []byte(domain)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint64(b, uint64(len(f)))
		b = append(b, f...)
	}
	return b
}
