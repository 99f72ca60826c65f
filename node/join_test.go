package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"minato.example/internal/ca"
	pb "minato.example/proto/minato/v1"
)

// requireTold checks that an error speaks to people in both languages.
func requireTold(t testing.TB, err error) {
	t.Helper()
	require.Error(t, err)
	var told interface {
		error
		Japanese() string
	}
	require.ErrorAs(t, err, &told)
	require.True(t, strings.ContainsFunc(told.Japanese(), func(r rune) bool { return unicode.Is(unicode.Hiragana, r) }), told.Japanese())
	require.False(t, strings.ContainsFunc(told.Error(), func(r rune) bool { return unicode.Is(unicode.Hiragana, r) }), told.Error())
}

// tree is every file below dir with its mode and content.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all[path] = info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[path] += string(data)
		}
		return nil
	}))
	return all
}

func TestAFailedJoinLeavesNothing(t *testing.T) {
	h := newFakeHub(t, GRPC)
	stranger := newFakeHub(t, GRPC)
	foreign := certificate(t, func(_ *ecdsa.PrivateKey, csr []byte) ([]byte, error) {
		return stranger.ca.IssueNode(csr, "terminal-a", 1, time.Now())
	}).Certificate[0]
	otherKey := certificate(t, func(_ *ecdsa.PrivateKey, csr []byte) ([]byte, error) {
		return h.ca.IssueNode(csr, "terminal-a", 1, time.Now())
	}).Certificate[0]
	wrongPin, err := ca.NewToken(rand.Reader, h.addr, sha256.Sum256([]byte("another CA")))
	require.NoError(t, err)
	nobody, err := ca.NewToken(rand.Reader, "127.0.0.1:1", ca.Pin(h.ca.Certificate()))
	require.NoError(t, err)
	for what, c := range map[string]struct {
		token  string
		answer func(*pb.JoinResponse)
		fault  fault
	}{
		"no token":                  {token: "x"},
		"a token cut off":           {token: h.token(t)[:30]},
		"a hub of another CA":       {token: wrongPin.String()},
		"a hub that is not there":   {token: nobody.String()},
		"refused":                   {fault: refusedByHub},
		"answer lost":               {fault: answerLost},
		"certificate of another CA": {answer: func(r *pb.JoinResponse) { r.Certificate = foreign }},
		"certificate of another key": {answer: func(r *pb.JoinResponse) {
			r.Certificate = otherKey
		}},
		"no certificate":        {answer: func(r *pb.JoinResponse) { r.Certificate = nil }},
		"another CA":            {answer: func(r *pb.JoinResponse) { r.CaCertificate = stranger.ca.Certificate().Raw }},
		"no CA":                 {answer: func(r *pb.JoinResponse) { r.CaCertificate = []byte("x") }},
		"a key too short":       {answer: func(r *pb.JoinResponse) { r.HubKey = r.HubKey[1:] }},
		"another member":        {answer: func(r *pb.JoinResponse) { r.Member = &pb.Member{Id: "terminal-b"} }},
		"another port":          {answer: func(r *pb.JoinResponse) { r.PortId = "otherport" }},
		"another number":        {answer: func(r *pb.JoinResponse) { r.Node = 2 }},
		"no member":             {answer: func(r *pb.JoinResponse) { r.Member = nil }},
		"no number of the node": {answer: func(r *pb.JoinResponse) { r.Node = 0 }},
	} {
		t.Run(what, func(t *testing.T) {
			token := c.token
			if token == "" {
				token = h.token(t)
			}
			h.see(func() { h.onJoin = c.answer })
			if c.fault != nil {
				h.fail(callJoin, c.fault)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			base := t.TempDir()
			_, err := Join(ctx, JoinOptions{Token: token, Dir: filepath.Join(base, "port", "node")})
			require.Error(t, err)
			require.Len(t, tree(t, base), 1, "a new directory, and the one above it, are gone again")

			empty := filepath.Join(base, "empty")
			require.NoError(t, os.Mkdir(empty, 0o700))
			if c.fault != nil {
				h.fail(callJoin, c.fault)
			}
			_, err = Join(ctx, JoinOptions{Token: token, Dir: empty})
			require.Error(t, err)
			require.Len(t, tree(t, base), 2, "an empty directory stays, and stays empty")
		})
	}
}

func TestAnExistingDirectoryIsNotTouchedAndTheTokenNotUsed(t *testing.T) {
	h := newFakeHub(t, GRPC)
	joined := h.join(t)
	calls := h.count(callJoin)
	base := t.TempDir()
	foreign := filepath.Join(base, "foreign")
	require.NoError(t, os.Mkdir(foreign, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "letter.txt"), []byte("mine"), 0o644))
	file := filepath.Join(base, "file")
	require.NoError(t, os.WriteFile(file, []byte("mine"), 0o644))
	wide := filepath.Join(base, "wide")
	require.NoError(t, os.Mkdir(wide, 0o755))
	for _, dir := range []string{joined, foreign, file, wide} {
		before := tree(t, dir)
		_, err := Join(t.Context(), JoinOptions{Token: h.token(t), Dir: dir})
		require.Error(t, err, dir)
		if dir == joined || dir == foreign {
			var is *JoinedError
			require.ErrorAs(t, err, &is)
			requireTold(t, err)
		}
		require.Equal(t, before, tree(t, dir))
	}
	require.Equal(t, calls, h.count(callJoin))
}

func TestANodeOfAnotherIdentityThanItsConfigurationIsRefused(t *testing.T) {
	h := newFakeHub(t, GRPC)
	c, err := ReadConfig(filepath.Join(h.join(t), "node.toml"))
	require.NoError(t, err)
	for _, alter := range []func(*Config){
		func(c *Config) { c.Member = "terminal-b" },
		func(c *Config) { c.Node = 2 },
		func(c *Config) { c.Port = "otherport" },
	} {
		other := c
		alter(&other)
		_, err := Open(t.Context(), other, newLog().logger())
		requireTold(t, err)
		require.ErrorContains(t, err, "the certificate is of port testport, member terminal-a, node 1")
	}
	n, err := Open(t.Context(), c, newLog().logger())
	require.NoError(t, err, "a refusal leaves nothing locked")
	require.NoError(t, n.Close())
}

func TestRenewalReplacesKeyAndCertificateTogether(t *testing.T) {
	h := newFakeHub(t, GRPC)
	h.issued = time.Now().Add(-8 * 24 * time.Hour)
	dir := h.join(t)
	path := filepath.Join(dir, "keys", "tls.key")
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	n := h.run(t, dir)
	eventually(t, func() bool { return h.atRest(n) }, "renewed")
	n.end()
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	before, err := parseCertificate(old)
	require.NoError(t, err)
	after, err := parseCertificate(now)
	require.NoError(t, err)
	require.Equal(t, h.renewed, after.Leaf.Raw)
	require.False(t, before.PrivateKey.(*ecdsa.PrivateKey).Equal(after.PrivateKey), "the key is new as well")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	files, err := os.ReadDir(filepath.Join(dir, "keys"))
	require.NoError(t, err)
	require.Len(t, files, 6, "one file holds both")

	calls := h.count(callRenew)
	n = h.run(t, dir)
	eventually(t, func() bool { connected, _ := n.state.now(); return connected }, "the new certificate is in use")
	require.Equal(t, after.Leaf.Raw, n.id.cert.Load().Leaf.Raw)
	require.Equal(t, calls, h.count(callRenew), "a fresh certificate is not renewed")
}

func TestARenewalThatCannotBeUsedChangesNothing(t *testing.T) {
	h, stranger := newFakeHub(t, GRPC), newFakeHub(t, GRPC)
	dir := h.join(t)
	before := tree(t, filepath.Join(dir, "keys"))
	c, err := ReadConfig(filepath.Join(dir, "node.toml"))
	require.NoError(t, err)
	id, err := openIdentity(c)
	require.NoError(t, err)
	served := id.cert.Load()
	foreign := stranger.join(t)
	c, err = ReadConfig(filepath.Join(foreign, "node.toml"))
	require.NoError(t, err)
	n, err := Open(t.Context(), c, newLog().logger())
	require.NoError(t, err)
	defer n.Close()
	require.ErrorContains(t, id.renew(t.Context(), n.hub), "cannot be used", "a certificate of another CA")
	require.Same(t, served, id.cert.Load())
	require.Equal(t, before, tree(t, filepath.Join(dir, "keys")))
}

func TestDamagedKeysAreNamedWithWhatToDo(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	c, err := ReadConfig(filepath.Join(dir, "node.toml"))
	require.NoError(t, err)
	refused := func(t *testing.T, name string, data []byte) {
		path := filepath.Join(dir, "keys", name)
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		defer func() { require.NoError(t, os.WriteFile(path, good, 0o600)) }()
		_, err = openIdentity(c)
		requireTold(t, err)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "backup")
	}
	for _, name := range []string{"tls.key", "ca.der", "signing.key", "hub.pub"} {
		good, err := os.ReadFile(filepath.Join(dir, "keys", name))
		require.NoError(t, err)
		for _, data := range [][]byte{nil, good[:1], good[:len(good)/2], good[:len(good)-1]} {
			t.Run(name, func(t *testing.T) { refused(t, name, data) })
		}
	}
	good, err := os.ReadFile(filepath.Join(dir, "keys", "tls.key"))
	require.NoError(t, err)
	for i := range 12 { // the length in front, and the start of the key
		spoilt := append([]byte(nil), good...)
		spoilt[i] ^= 0x40
		refused(t, "tls.key", spoilt)
	}
	other, err := os.ReadFile(filepath.Join(h.join(t), "keys", "tls.key"))
	require.NoError(t, err)
	mine, err := parseCertificate(good)
	require.NoError(t, err)
	theirs, err := parseCertificate(other)
	require.NoError(t, err)
	scratch := t.TempDir()
	require.NoError(t, writeCertificate(scratch, mine.PrivateKey.(*ecdsa.PrivateKey), theirs.Leaf.Raw))
	mixed, err := os.ReadFile(filepath.Join(scratch, "tls.key"))
	require.NoError(t, err)
	refused(t, "tls.key", mixed)

	require.NoError(t, os.Chmod(filepath.Join(dir, "keys", "tls.key"), 0o644))
	_, err = openIdentity(c)
	requireTold(t, err)
	require.ErrorIs(t, err, ca.ErrMode)
	require.NoError(t, os.Chmod(filepath.Join(dir, "keys", "tls.key"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(dir, "keys", "ca.der")))
	_, err = openIdentity(c)
	require.True(t, errors.Is(err, fs.ErrNotExist))
}

func TestOneProcessHasTheDirectoryOpen(t *testing.T) {
	h := newFakeHub(t, GRPC)
	c, err := ReadConfig(filepath.Join(h.join(t), "node.toml"))
	require.NoError(t, err)
	n, err := Open(t.Context(), c, newLog().logger())
	require.NoError(t, err)
	_, err = Open(t.Context(), c, newLog().logger())
	var running *RunningError
	require.ErrorAs(t, err, &running)
	requireTold(t, err)
	require.NoError(t, n.Close())
	n, err = Open(t.Context(), c, newLog().logger())
	require.NoError(t, err)
	require.NoError(t, n.Close())
}

// FuzzParseCertificate reads arbitrary bytes as keys/tls.key: what is taken is
// a pair that can serve.
func FuzzParseCertificate(f *testing.F) {
	h := newFakeHub(f, GRPC)
	good, err := os.ReadFile(filepath.Join(h.join(f), "keys", "tls.key"))
	require.NoError(f, err)
	for _, seed := range [][]byte{good, good[:8], nil, []byte("00000000"), []byte("-0000001x"), []byte("99999999x"), good[:len(good)-1]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cert, err := parseCertificate(data)
		if err != nil {
			require.Nil(t, cert)
			return
		}
		key := cert.PrivateKey.(*ecdsa.PrivateKey)
		require.True(t, key.PublicKey.Equal(cert.Leaf.PublicKey))
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		require.NoError(t, err)
		require.True(t, leaf.Equal(cert.Leaf))
	})
}

// FuzzNodeConfig reads arbitrary text as node.toml: what is taken can be used,
// and what is not is told to people.
func FuzzNodeConfig(f *testing.F) {
	h := newFakeHub(f, GRPC)
	good, err := os.ReadFile(filepath.Join(h.join(f), "node.toml"))
	require.NoError(f, err)
	f.Add(string(good))
	f.Add("")
	f.Add("hub = 1")
	f.Add(string(good) + "\nunknown = true\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "node.toml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		c, err := ReadConfig(path)
		if err != nil {
			requireSpeaks(t, err)
			return
		}
		require.NotEmpty(t, c.Hub)
		require.True(t, ca.ValidID(c.Port) && ca.ValidID(c.Member))
		require.NotZero(t, c.Node)
		require.True(t, c.Transport == GRPC || c.Transport == NATS && c.NATS != "")
		require.Equal(t, filepath.Dir(path), c.Dir)
	})
}

// requireSpeaks checks both languages where the text may quote anything.
func requireSpeaks(t testing.TB, err error) {
	t.Helper()
	var told interface {
		error
		Japanese() string
	}
	require.ErrorAs(t, err, &told)
	require.NotEmpty(t, told.Japanese())
}
