package ca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func newToken(t testing.TB) Token {
	tok, err := NewToken(rand.Reader, "hub.port.example.jp:7443", [32]byte{1, 2, 3})
	require.NoError(t, err)
	return tok
}

func TestTokenSurvivesBeingPassedOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed")
		pin := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "pin")
		addr := rapid.StringMatching(`[a-z0-9.-]{1,60}:[1-9][0-9]{0,3}`).Draw(t, "addr")
		tok, err := NewToken(bytes.NewReader(seed), addr, [32]byte(pin))
		require.NoError(t, err)
		got, err := ParseToken(tok.String())
		require.NoError(t, err)
		require.Equal(t, tok, got)
	})
	tok, err := NewToken(rand.Reader, "[::1]:7443", [32]byte{})
	require.NoError(t, err)
	got, err := ParseToken(tok.String())
	require.NoError(t, err)
	require.Equal(t, tok, got)
}

func TestTokenForgivesWhatMailProgramsInsert(t *testing.T) {
	tok := newToken(t)
	s := tok.String()
	for name, changed := range map[string]string{
		"around":            "  \t" + s + "\r\n\n",
		"folded":            s[:40] + "\r\n" + s[40:80] + "\n  " + s[80:],
		"ideographic space": s[:40] + "\u3000" + s[40:],
		"no-break space":    s[:40] + "\u00a0" + s[40:],
		"zero width space":  s[:40] + "\u200b" + s[40:],
		"byte order mark":   "\ufeff" + s,
		"capital":           "M" + s[1:],
	} {
		got, err := ParseToken(changed)
		require.NoError(t, err, name)
		require.Equal(t, tok, got, name)
	}
}

func TestWrongTokensAreToldApart(t *testing.T) {
	s := newToken(t).String()
	mistyped := s[:50] + string('A'+(s[50]+1-'A')%2) + s[51:]
	for text, want := range map[string]error{
		"":                               ErrTokenNone,
		"hello":                          ErrTokenNone,
		"https://hub.example/":           ErrTokenNone,
		"minatox." + s[8:]:               ErrTokenNone,
		s[8:]:                            ErrTokenNone,
		strings.Repeat("minato1.", 1000): ErrTokenNone,
		"minato2." + s[8:]:               ErrTokenVersion,
		"minato10.x":                     ErrTokenVersion,
		"minato":                         ErrTokenCutOff,
		"minato1":                        ErrTokenCutOff,
		"minato1.":                       ErrTokenCutOff,
		s[:20]:                           ErrTokenCutOff,
		mistyped:                         ErrTokenTyped,
		s + "A":                          ErrTokenTyped,
		s + s:                            ErrTokenTyped,
		s[:30] + "*" + s[31:]:            ErrTokenTyped,
		strings.ToUpper(s):               ErrTokenTyped,
	} {
		_, err := ParseToken(text)
		require.ErrorIs(t, err, want, text)
		requireBilingual(t, err)
	}
}

func TestEveryTruncationOfATokenIsCutOff(t *testing.T) {
	s := newToken(t).String()
	for n := 1; n < len(s); n++ {
		_, err := ParseToken(s[:n])
		require.ErrorIs(t, err, ErrTokenCutOff, s[:n])
	}
}

func TestEveryMistypedCharacterIsNoticed(t *testing.T) {
	s := newToken(t).String()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := len(tokenPrefix); i < len(s); i++ {
		for _, c := range alphabet {
			if changed := s[:i] + string(c) + s[i+1:]; changed != s {
				_, err := ParseToken(changed)
				require.Error(t, err, "%d %c", i, c)
			}
		}
	}
}

func TestTokenNeedsAnAddressThatCanBeDialled(t *testing.T) {
	for _, addr := range []string{"", "hub", "hub:", ":7443", "hub:0", "hub:65536", "hub:x", "hub name:1", "港:1", strings.Repeat("a", 255) + ":1"} {
		_, err := NewToken(rand.Reader, addr, [32]byte{})
		requireBilingual(t, err)
	}
	_, err := NewToken(bytes.NewReader(make([]byte, 31)), "hub:1", [32]byte{})
	require.Error(t, err)
}

func TestTokenStaysOutOfLogs(t *testing.T) {
	var b bytes.Buffer
	tok := newToken(t)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "token", tok)
	require.NotContains(t, b.String(), base64.RawURLEncoding.EncodeToString(tok.Key.Seed())[:20])
	require.NotContains(t, b.String(), "minato1.")
}

func TestProofHoldsForThisConnectionAndTheseKeysOnly(t *testing.T) {
	tok := newToken(t)
	pub := tok.Key.Public().(ed25519.PublicKey)
	exporter, csr, signing := bytes.Repeat([]byte{7}, 32), []byte("csr"), []byte("signing key")
	proof := Proof(tok.Key, exporter, csr, signing)
	require.True(t, CheckProof(pub, exporter, csr, signing, proof))

	other := newToken(t).Key.Public().(ed25519.PublicKey)
	require.False(t, CheckProof(other, exporter, csr, signing, proof))
	require.False(t, CheckProof(pub, bytes.Repeat([]byte{8}, 32), csr, signing, proof))
	require.False(t, CheckProof(pub, exporter, []byte("csR"), signing, proof))
	require.False(t, CheckProof(pub, exporter, csr, []byte("signing keY"), proof))
	require.False(t, CheckProof(pub, exporter, []byte("csrs"), []byte("igning key"), proof), "values cannot run into each other")
	for _, pub := range []ed25519.PublicKey{nil, pub[:31]} {
		require.False(t, CheckProof(pub, exporter, csr, signing, proof))
	}
	require.False(t, CheckProof(pub, exporter, csr, signing, nil))
	require.False(t, CheckProof(pub, exporter, csr, signing, proof[:63]))
	short := Proof(tok.Key, nil, csr, signing)
	require.False(t, CheckProof(pub, nil, csr, signing, short), "a connection without exporter proves nothing")
}

func FuzzParseTokenHasOneSpelling(f *testing.F) {
	f.Add(newToken(f).String())
	f.Add("minato1.")
	f.Add("minato2.AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			requireBilingual(t, err)
			return
		}
		again, err := ParseToken(tok.String())
		require.NoError(t, err)
		require.Equal(t, tok, again)
	})
}
