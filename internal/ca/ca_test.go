package ca

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newCA(t *testing.T, port string) *CA {
	dir := filepath.Join(t.TempDir(), "ca")
	require.NoError(t, Create(dir, port))
	c, err := Open(dir)
	require.NoError(t, err)
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func request(t *testing.T, key any) []byte {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		// All of these are ignored.
		Subject:  pkix.Name{CommonName: "cabinet"},
		DNSNames: []string{HubName},
		URIs:     []*url.URL{{Scheme: "minato", Host: "nagoya", Path: "/member/cabinet/node/1"}},
	}, key)
	require.NoError(t, err)
	return csr
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

func requireBilingual(t *testing.T, err error) {
	t.Helper()
	told, ok := err.(interface {
		error
		Japanese() string
	})
	require.True(t, ok, "%T", err)
	require.NotEmpty(t, told.Error())
	require.NotEmpty(t, told.Japanese())
	require.NotEqual(t, told.Error(), told.Japanese())
}

func TestCreatedCAOpensWithPrivateModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hub", "ca")
	require.NoError(t, Create(dir, "nagoya"))
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "ca.key"): 0o600, filepath.Join(dir, "ca.crt"): 0o644} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm(), path)
	}
	c, err := Open(dir)
	require.NoError(t, err)
	require.Equal(t, "nagoya", c.Port())
	require.True(t, c.Certificate().IsCA)
	require.Equal(t, elliptic.P256(), c.Certificate().PublicKey.(*ecdsa.PublicKey).Curve)
}

func TestCreateNeverReplacesACA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	require.NoError(t, Create(dir, "nagoya"))
	before, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	require.NoError(t, err)
	err = Create(dir, "nagoya")
	require.ErrorIs(t, err, ErrExists)
	requireBilingual(t, err)
	after, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestCreateFinishesAfterAPowerCutBetweenItsTwoFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	require.NoError(t, Create(dir, "nagoya"))
	require.NoError(t, os.Remove(filepath.Join(dir, "ca.crt")))
	require.NoError(t, Create(dir, "nagoya"))
	_, err := Open(dir)
	require.NoError(t, err)
}

func TestCreateRefusesAPortThatIsNoID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	for _, port := range []string{"", "Nagoya", "na/goya", "港", strings.Repeat("a", 64)} {
		err := Create(dir, port)
		requireBilingual(t, err)
	}
	require.NoDirExists(t, dir)
}

func TestWiderModesAreRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	require.NoError(t, Create(dir, "nagoya"))
	key := filepath.Join(dir, "ca.key")
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620, 0o666} {
		require.NoError(t, os.Chmod(key, mode))
		_, err := Open(dir)
		require.ErrorIs(t, err, ErrMode)
		requireBilingual(t, err)
		require.ErrorContains(t, err, "chmod 0600 "+key)
	}
	require.NoError(t, os.Chmod(key, 0o400))
	_, err := Open(dir)
	require.NoError(t, err, "narrower is welcome")
	for _, mode := range []os.FileMode{0o755, 0o710, 0o701} {
		require.NoError(t, os.Chmod(dir, mode))
		_, err := Open(dir)
		require.ErrorIs(t, err, ErrMode)
		require.ErrorContains(t, err, "chmod 0700 "+dir)
	}
}

func TestDamagedOrMixedFilesAreRefused(t *testing.T) {
	dir, other := filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "ca")
	require.NoError(t, Create(dir, "nagoya"))
	require.NoError(t, Create(other, "nagoya"))
	good, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	require.NoError(t, err)
	foreign, err := os.ReadFile(filepath.Join(other, "ca.key"))
	require.NoError(t, err)
	for _, data := range [][]byte{nil, good[:len(good)/2], append(append([]byte{}, good...), "x"...), foreign} {
		require.NoError(t, WriteSecret(filepath.Join(dir, "ca.key"), data))
		_, err = Open(dir)
		require.ErrorIs(t, err, ErrKey)
		requireBilingual(t, err)
	}
	require.NoError(t, WriteSecret(filepath.Join(dir, "ca.key"), good))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("no"), 0o644))
	_, err = Open(dir)
	require.ErrorIs(t, err, ErrKey)
}

func TestIssuedNodeCertificateNamesTheNodeAndNothingOfTheRequest(t *testing.T) {
	c, now := newCA(t, "nagoya"), time.Now().Truncate(time.Second).UTC()
	der, err := c.IssueNode(request(t, newKey(t)), "tos-a", 2, now)
	require.NoError(t, err)
	cert := parse(t, der)
	require.Len(t, cert.URIs, 1)
	require.Equal(t, "minato://nagoya/member/tos-a/node/2", cert.URIs[0].String())
	require.Empty(t, cert.Subject.CommonName)
	require.Empty(t, cert.DNSNames)
	require.Equal(t, now.Add(14*24*time.Hour), cert.NotAfter)
	require.Equal(t, now.Add(-5*time.Minute), cert.NotBefore)
	require.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, cert.ExtKeyUsage)
	require.GreaterOrEqual(t, cert.SerialNumber.BitLen(), 128)
	require.False(t, cert.IsCA)
	_, err = cert.Verify(verify(c, now, x509.ExtKeyUsageClientAuth))
	require.NoError(t, err)
	_, err = cert.Verify(verify(c, now, x509.ExtKeyUsageServerAuth))
	require.Error(t, err, "a node cannot pose as the hub")
	_, err = cert.Verify(verify(c, now.Add(15*24*time.Hour), x509.ExtKeyUsageClientAuth))
	require.Error(t, err)
	_, err = cert.Verify(verify(newCA(t, "nagoya"), now, x509.ExtKeyUsageClientAuth))
	require.Error(t, err)

	p, err := PeerOf(cert)
	require.NoError(t, err)
	require.Equal(t, Peer{Port: "nagoya", Member: "tos-a", Node: 2, Fingerprint: p.Fingerprint, NotAfter: cert.NotAfter}, p)
	require.NotZero(t, p.Fingerprint)
}

func verify(c *CA, now time.Time, usage x509.ExtKeyUsage) x509.VerifyOptions {
	roots := x509.NewCertPool()
	roots.AddCert(c.Certificate())
	return x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
}

func TestHubCertificateIsForTheHubsNameOnly(t *testing.T) {
	c, now := newCA(t, "nagoya"), time.Now()
	der, err := c.IssueHub(&newKey(t).PublicKey, now)
	require.NoError(t, err)
	cert := parse(t, der)
	opts := verify(c, now, x509.ExtKeyUsageServerAuth)
	opts.DNSName = "hub.minato.example"
	_, err = cert.Verify(opts)
	require.NoError(t, err)
	_, err = PeerOf(cert)
	require.ErrorIs(t, err, ErrIdentity)
	_, err = cert.Verify(verify(c, now, x509.ExtKeyUsageClientAuth))
	require.Error(t, err)

	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	for _, key := range []*ecdsa.PublicKey{nil, &p384.PublicKey} {
		_, err = c.IssueHub(key, now)
		require.ErrorIs(t, err, ErrRequest)
	}
}

func TestRequestsWithoutASoundP256KeyAreRefused(t *testing.T) {
	c := newCA(t, "nagoya")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	forged := request(t, newKey(t))
	forged[len(forged)-1] ^= 1
	good := request(t, newKey(t))
	for name, csr := range map[string][]byte{
		"P-384": request(t, p384), "Ed25519": request(t, edKey), "RSA": request(t, rsaKey),
		"forged": forged, "cut": good[:len(good)-1], "empty": nil, "longer": append(append([]byte{}, good...), 0),
		"huge": make([]byte, 1<<20),
	} {
		_, err := c.IssueNode(csr, "tos-a", 1, time.Now())
		require.ErrorIs(t, err, ErrRequest, name)
		requireBilingual(t, err)
	}
	_, err = c.IssueNode(good, "tos-a/node/1", 1, time.Now())
	require.Error(t, err)
	_, err = c.IssueNode(good, "tos-a", 0, time.Now())
	require.Error(t, err)
}

func TestIssuingNeverOutlivesTheCA(t *testing.T) {
	c := newCA(t, "nagoya")
	late := c.Certificate().NotAfter.Add(-time.Hour)
	der, err := c.IssueNode(request(t, newKey(t)), "tos-a", 1, late)
	require.NoError(t, err)
	require.Equal(t, c.Certificate().NotAfter, parse(t, der).NotAfter)
}

func TestIdentityIsExactlyOneURI(t *testing.T) {
	key := newKey(t)
	certificate := func(names ...asn1.RawValue) *x509.Certificate {
		san, err := asn1.Marshal(names)
		require.NoError(t, err)
		cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "minato://nagoya/member/a/node/1"}}
		if len(names) > 0 {
			cert.ExtraExtensions = []pkix.Extension{{Id: subjectAltName, Value: san}}
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
		require.NoError(t, err)
		return parse(t, der)
	}
	uri := func(s string) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(s)}
	}
	dns := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("a.example")}
	good := "minato://nagoya/member/tos-a/node/1"
	p, err := PeerOf(certificate(uri(good)))
	require.NoError(t, err)
	require.Equal(t, "tos-a", p.Member)
	p, err = PeerOf(certificate(uri("minato://nagoya/member/tos-a/node/4294967295")))
	require.NoError(t, err)
	require.Equal(t, uint32(4294967295), p.Node)

	for name, cert := range map[string]*x509.Certificate{
		"none":        certificate(),
		"two":         certificate(uri(good), uri("minato://nagoya/member/b/node/1")),
		"the same":    certificate(uri(good), uri(good)),
		"and DNS":     certificate(uri(good), dns),
		"DNS":         certificate(dns),
		"DNS and URI": certificate(dns, uri(good)),
	} {
		_, err := PeerOf(cert)
		require.ErrorIs(t, err, ErrIdentity, name)
	}
	for _, s := range []string{
		"minato://nagoya/member/tos-a/node/1#", "minato://nagoya/member/tos-a/node/1?", good + "/", good + "?x=1", good + "#x",
		"minato://nagoya/member/tos-a/node/01", "minato://nagoya/member/tos-a/node/0", "minato://nagoya/member/tos-a/node/+1",
		"minato://nagoya/member/tos-a/node/-1", "minato://nagoya/member/tos-a/node/4294967296", "minato://nagoya/member/tos-a/node/",
		"minato://nagoya/member/tos%2Da/node/1", "minato://nagoya/member/Tos-a/node/1", "minato://nagoya/member//node/1",
		"minato://nagoya/member/tos-a/../b/node/1", "minato://user@nagoya/member/tos-a/node/1", "minato://nagoya:1/member/tos-a/node/1",
		"MINATO://nagoya/member/tos-a/node/1", "https://nagoya/member/tos-a/node/1", "minato:nagoya/member/tos-a/node/1",
		"minato:///member/tos-a/node/1", "minato://nagoya/Member/tos-a/node/1", "minato://nagoya/member/tos-a/node/1/node/2", "minato://nagoya",
		"minato://nagoya/member/" + strings.Repeat("a", 64) + "/node/1",
	} {
		// A name that x509 itself cannot read never becomes a certificate.
		san, err := asn1.Marshal([]asn1.RawValue{uri(s)})
		require.NoError(t, err)
		_, err = PeerOf(&x509.Certificate{Extensions: []pkix.Extension{{Id: subjectAltName, Value: san}}})
		require.ErrorIs(t, err, ErrIdentity, s)
	}
}

func TestTheCAIsNoPeer(t *testing.T) {
	_, err := PeerOf(newCA(t, "nagoya").Certificate())
	require.ErrorIs(t, err, ErrIdentity)
}

func FuzzPeerOfNeverAcceptsAnotherSpelling(f *testing.F) {
	f.Add("minato://nagoya/member/tos-a/node/1")
	f.Add("minato://nagoya/member/tos-a/node/1#")
	f.Fuzz(func(t *testing.T, s string) {
		san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(s)}})
		require.NoError(t, err)
		p, err := PeerOf(&x509.Certificate{Extensions: []pkix.Extension{{Id: subjectAltName, Value: san}}})
		if err == nil {
			require.Equal(t, s, fmt.Sprintf("minato://%s/member/%s/node/%d", p.Port, p.Member, p.Node))
		}
	})
}

func TestPinIsOfTheKeyAndNotOfTheCertificate(t *testing.T) {
	a, b := newCA(t, "nagoya"), newCA(t, "nagoya")
	require.NotEqual(t, Pin(a.Certificate()), Pin(b.Certificate()))
	again, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	require.NoError(t, err)
	require.NotEqual(t, a.cert.Raw, again)
	require.Equal(t, Pin(a.Certificate()), Pin(parse(t, again)))
}

func TestKeysComeBackFromTheirFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for _, key := range []any{newKey(t), edKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		require.NoError(t, WriteKey(path, der))
		got, err := ReadKey(path)
		require.NoError(t, err)
		require.Equal(t, key, got)
	}
}

func TestSecretIsReplacedWholeAndNarrowed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	require.NoError(t, os.WriteFile(path, []byte("old and wide"), 0o644))
	_, err := ReadSecret(path)
	require.ErrorIs(t, err, ErrMode)
	requireBilingual(t, err)
	require.NoError(t, WriteSecret(path, []byte("new")))
	got, err := ReadSecret(path)
	require.NoError(t, err)
	require.Equal(t, "new", string(got))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside it")

	_, err = ReadSecret(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ReadSecret(dir)
	require.ErrorIs(t, err, ErrKey)
	require.NoError(t, WriteSecret(path, make([]byte, maxSecret+1)))
	_, err = ReadSecret(path)
	require.ErrorIs(t, err, ErrKey)
}

func TestFoldersAreMadeForTheOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	require.NoError(t, MakeDir(dir))
	require.NoError(t, CheckDir(dir))
	require.NoError(t, MakeDir(dir), "once more changes nothing")
	require.NoError(t, os.Chmod(dir, 0o750))
	require.ErrorIs(t, MakeDir(dir), ErrMode)
	file := filepath.Join(t.TempDir(), "f")
	require.NoError(t, WriteSecret(file, nil))
	requireBilingual(t, CheckDir(file))
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer l.Close()
	_, err = ReadSecret(l.Addr().String())
	require.Error(t, err)
}
