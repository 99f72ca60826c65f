package ca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"unicode"
)

const (
	tokenPrefix  = "minato1."
	tokenSum     = 4
	maxAddr      = 255
	maxToken     = 4096
	exporterSize = 32
)

// What is wrong with a text that should be a token; test with errors.Is. The
// errors themselves speak both languages.
var (
	ErrTokenNone    = errors.New("not a token")
	ErrTokenVersion = errors.New("token of another version")
	ErrTokenCutOff  = errors.New("token is cut off")
	ErrTokenTyped   = errors.New("token is mistyped")
)

// Token is the one-time permission to join (参加トークン). It carries the pin
// of the port's CA, so that the node knows its hub, and a key of which the
// hub keeps the public half only: who steals the hub's disk cannot join in a
// member's place.
type Token struct {
	// Addr is the hub's gRPC address, host:port.
	Addr string
	// Pin is Pin of the CA's certificate.
	Pin [32]byte
	// Key makes the Proof.
	Key ed25519.PrivateKey
}

// NewToken makes a token with a key from 32 bytes of rand.
func NewToken(rand io.Reader, addr string, pin [32]byte) (Token, error) {
	if !validAddr(addr) {
		return Token{}, &told{
			en: fmt.Sprintf("address = %.80q: write host:port, at most %d characters.", addr, maxAddr),
			ja: fmt.Sprintf("address = %.80q: ホスト:ポート の形で、%d 文字以内で書いてください。", addr, maxAddr),
		}
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return Token{}, err
	}
	return Token{Addr: addr, Pin: pin, Key: ed25519.NewKeyFromSeed(seed)}, nil
}

func validAddr(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || len(addr) > maxAddr {
		return false
	}
	for i := range len(addr) {
		if addr[i] <= ' ' || addr[i] > '~' {
			return false
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// String is the token as people pass it on: "minato1." and base64url of the
// address' length, pin, seed, address and 4 bytes of checksum. It is a secret.
func (t Token) String() string {
	b := []byte{byte(len(t.Addr))}
	b = append(b, t.Pin[:]...)
	b = append(b, t.Key.Seed()...)
	b = append(b, t.Addr...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, checksum(b)...))
}

// LogValue keeps the secret out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue("token for " + t.Addr) }

// checksum tells a mistyped token apart from one that the hub does not know.
func checksum(b []byte) []byte {
	sum := sha256.Sum256(append([]byte(tokenPrefix), b...))
	return sum[:tokenSum]
}

// ParseToken reads a token. It forgives white space and line breaks anywhere,
// as mail programs insert them.
func ParseToken(s string) (Token, error) {
	if len(s) > maxToken {
		return Token{}, errNotToken
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) { // soft hyphen, zero width space, byte order mark
			return -1
		}
		return r
	}, s)
	prefix, body, ok := strings.Cut(s, ".")
	prefix = strings.ToLower(prefix)
	version, named := strings.CutPrefix(prefix, "minato")
	switch _, err := strconv.ParseUint(version, 10, 16); {
	case !ok && s != "" && strings.HasPrefix(tokenPrefix, prefix):
		return Token{}, errTokenCutOff
	case !ok, !named, err != nil:
		return Token{}, errNotToken
	case version != "1":
		return Token{}, errTokenVersion
	}
	// A rest of one character cannot be decoded: the token ended there.
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil && len(body)%4 == 1 {
		b, err = base64.RawURLEncoding.DecodeString(body[:len(body)-1])
	}
	if err != nil {
		return Token{}, errTokenTyped
	}
	const fixed = 1 + 32 + ed25519.SeedSize
	if len(b) < fixed || len(b) < fixed+int(b[0])+tokenSum {
		return Token{}, errTokenCutOff
	}
	b, sum := b[:len(b)-tokenSum], b[len(b)-tokenSum:]
	if len(b) != fixed+int(b[0]) || !bytes.Equal(sum, checksum(b)) {
		return Token{}, errTokenTyped
	}
	t := Token{Addr: string(b[fixed:]), Pin: [32]byte(b[1:33]), Key: ed25519.NewKeyFromSeed(b[33:fixed])}
	// One token has one spelling: spare bits of the last character are zero.
	if !validAddr(t.Addr) || t.String() != tokenPrefix+body {
		return Token{}, errTokenTyped
	}
	return t, nil
}

var (
	errNotToken = &told{
		en:  `This is not a token. A token begins with "minato1."; ask the hub's administrator for one: minato hub invite`,
		ja:  "参加トークンではありません。参加トークンは「minato1.」で始まります。ハブの管理者に発行を頼んでください: minato hub invite",
		err: ErrTokenNone,
	}
	errTokenVersion = &told{
		en:  "The token is of another version of minato. Update minato on this machine, or ask for a token of this version.",
		ja:  "参加トークンの版が違います。この端末の minato を更新するか、この版の参加トークンを求めてください。",
		err: ErrTokenVersion,
	}
	errTokenCutOff = &told{
		en:  "The token is cut off. Copy it again, up to its last character.",
		ja:  "参加トークンが途中で切れています。最後の文字まで写し直してください。",
		err: ErrTokenCutOff,
	}
	errTokenTyped = &told{
		en:  "The token is mistyped: its checksum does not fit. Copy it again instead of typing it.",
		ja:  "参加トークンに写し間違いがあります (検査符号が合いません)。手で打たずに、もう一度コピーしてください。",
		err: ErrTokenTyped,
	}
)

// Proof shows that the caller holds the token. exporter is the value of this
// very TLS connection (rpc.Exporter), csr the certificate request and
// signingKey the public key that will sign reports: the proof is useless on
// another connection or for other keys.
func Proof(tokenKey ed25519.PrivateKey, exporter, csr, signingKey []byte) []byte {
	return ed25519.Sign(tokenKey, proven(exporter, csr, signingKey))
}

// CheckProof tells whether Proof made proof with the key whose public half is
// pub, from the same three values.
func CheckProof(pub ed25519.PublicKey, exporter, csr, signingKey, proof []byte) bool {
	return len(pub) == ed25519.PublicKeySize && len(exporter) == exporterSize && len(proof) == ed25519.SignatureSize &&
		ed25519.Verify(pub, proven(exporter, csr, signingKey), proof)
}

func proven(values ...[]byte) []byte {
	b := []byte("minato join v1")
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, uint64(len(v)))
		b = append(b, v...)
	}
	return b
}
