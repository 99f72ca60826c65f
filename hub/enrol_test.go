package hub

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/ca"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

func noCertificate() *tls.Certificate { return nil }

func (h *testHub) invite(member string) ca.Token {
	h.t.Helper()
	inv, err := h.Invite(context.Background(), &pb.InviteRequest{Member: member, Name: "名", Role: pb.Role_ROLE_OPERATOR})
	require.NoError(h.t, err)
	tok, err := ca.ParseToken(inv.GetToken())
	require.NoError(h.t, err)
	return tok
}

// honest makes the proof that the hub expects.
func honest(tok ca.Token) func(exporter, csr, signing []byte) []byte {
	return func(exporter, csr, signing []byte) []byte { return ca.Proof(tok.Key, exporter, csr, signing) }
}

func TestATokenWorksOnce(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	tok := h.invite("a")
	m, err := joinAs(t, tok, honest(tok))
	require.NoError(t, err)
	require.Equal(t, nodeID{"a", 1}, m.id)
	_, err = joinAs(t, tok, honest(tok))
	require.Equal(t, codes.PermissionDenied, requireReason(t, err, "TOKEN_USED").Code)

	t.Run("also when many try at once", func(t *testing.T) {
		tok := h.invite("b")
		var wg sync.WaitGroup
		errs := make(chan error, 16)
		for range cap(errs) {
			wg.Go(func() {
				_, err := joinAs(t, tok, honest(tok))
				errs <- err
			})
		}
		wg.Wait()
		won := 0
		for range cap(errs) {
			if err := <-errs; err == nil {
				won++
			} else {
				requireReason(t, err, "TOKEN_USED")
			}
		}
		require.Equal(t, 1, won)
		require.Len(t, h.directory().members["b"].GetNodes(), 1)
	})
	t.Run("also after a restart", func(t *testing.T) {
		h.restart(nil)
		_, err := joinAs(t, tok, honest(tok))
		requireReason(t, err, "TOKEN_USED")
	})
}

func TestAWrongProofBurnsTheToken(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, proof := range map[string]func(tok ca.Token) func(exporter, csr, signing []byte) []byte{
		"of another key": func(ca.Token) func(a, b, c []byte) []byte {
			return func(a, b, c []byte) []byte { return ca.Proof(other, a, b, c) }
		},
		"for another signing key": func(tok ca.Token) func(a, b, c []byte) []byte {
			return func(a, b, c []byte) []byte { return ca.Proof(tok.Key, a, b, tokenKey(1)) }
		},
		"for another request": func(tok ca.Token) func(a, b, c []byte) []byte {
			return func(a, b, c []byte) []byte { return ca.Proof(tok.Key, a, append(b, 0), c) }
		},
		"that is missing": func(ca.Token) func(a, b, c []byte) []byte {
			return func(_, _, _ []byte) []byte { return nil }
		},
		"of another connection": func(tok ca.Token) func(a, b, c []byte) []byte {
			conn, export, err := rpc.DialPinned(tok.Addr, tok.Pin)
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() })
			elsewhere, err := export(context.Background())
			require.NoError(t, err)
			return func(here, b, c []byte) []byte {
				require.NotEqual(t, elsewhere, here)
				return ca.Proof(tok.Key, elsewhere, b, c)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			tok := h.invite("m" + newID()[:8])
			_, err := joinAs(t, tok, proof(tok))
			requireReason(t, err, "TOKEN_WRONG")
			_, err = joinAs(t, tok, honest(tok))
			requireReason(t, err, "TOKEN_BURNT")
		})
	}
}

func TestAnExpiredTokenIsRefused(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	tok, err := ca.NewToken(rand.Reader, h.Addr(), ca.Pin(h.ca.Certificate()))
	require.NoError(t, err)
	require.NoError(t, h.change(context.Background(), func(*directory) (*pb.DirectoryChange, error) {
		return &pb.DirectoryChange{Change: &pb.DirectoryChange_Invited{Invited: &pb.Invited{
			Member: "a", Name: "名", Role: pb.Role_ROLE_OPERATOR,
			TokenKey: tok.Key.Public().(ed25519.PublicKey), ExpireTime: timestamppb.New(time.Now().Add(-time.Second)),
		}}}, nil
	}))
	_, err = joinAs(t, tok, honest(tok))
	requireReason(t, err, "TOKEN_EXPIRED")
}

func TestAForeignOrAlteredTokenIsRefusedAndHarmsNoOther(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	tok := h.invite("a")
	text := tok.String()
	altered := text[:len(text)-10] + strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return 'A'
	}, text[len(text)-10:len(text)-9]) + text[len(text)-9:]
	_, err := joinWith(t, altered)
	require.ErrorIs(t, err, ca.ErrTokenTyped)

	unknown, err := ca.NewToken(rand.Reader, tok.Addr, tok.Pin)
	require.NoError(t, err)
	_, err = joinAs(t, unknown, honest(unknown))
	requireReason(t, err, "TOKEN_UNKNOWN")

	pinned := tok
	pinned.Pin[0]++
	_, err = joinAs(t, pinned, func(_, _, _ []byte) []byte {
		t.Error("a proof was made for a hub with another CA")
		return nil
	})
	requireReason(t, err, "PIN_MISMATCH")

	_, err = joinAs(t, tok, honest(tok))
	require.NoError(t, err, "the token itself is as good as before")
}

func TestACertificateNamesWhatTheHubDecidedWhateverTheRequestAsks(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	m := h.join("a", pb.Role_ROLE_OPERATOR)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	wish := &url.URL{Scheme: "minato", Host: "testport", Path: "/member/ministry/node/1"}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "ministry"}, DNSNames: []string{ca.HubName}, URIs: []*url.URL{wish},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, EmailAddresses: []string{"x@port.example"},
	}, key)
	require.NoError(t, err)
	tok := h.invite("b")
	conn, export, err := rpc.DialPinned(tok.Addr, tok.Pin)
	require.NoError(t, err)
	defer conn.Close()
	exporter, err := export(context.Background())
	require.NoError(t, err)
	joined, err := pb.NewHubServiceClient(conn).Join(context.Background(), &pb.JoinRequest{
		CertificateRequest: csr, SigningKey: tokenKey(7), TokenKey: tok.Key.Public().(ed25519.PublicKey),
		Proof: ca.Proof(tok.Key, exporter, csr, tokenKey(7)),
	})
	require.NoError(t, err)
	renewed, err := m.hub.RenewCertificate(context.Background(), &pb.RenewCertificateRequest{CertificateRequest: csr})
	require.NoError(t, err)
	for member, der := range map[string][]byte{"b": joined.GetCertificate(), "a": renewed.GetCertificate()} {
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		p, err := ca.PeerOf(cert)
		require.NoError(t, err)
		require.Equal(t, "testport/"+member, p.Port+"/"+p.Member)
		require.Equal(t, uint32(1), p.Node)
		require.Empty(t, cert.DNSNames)
		require.Empty(t, cert.IPAddresses)
		require.Empty(t, cert.EmailAddresses)
		require.NotContains(t, cert.Subject.String(), "ministry")
		require.False(t, cert.IsCA)
	}
	_, err = m.hub.RenewCertificate(context.Background(), &pb.RenewCertificateRequest{CertificateRequest: csr[:40]})
	requireReason(t, err, "CSR_INVALID")
}

func TestARenewedCertificateOpensTheDoor(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	m := h.join("a", pb.Role_ROLE_OPERATOR)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	resp, err := m.hub.RenewCertificate(context.Background(), &pb.RenewCertificateRequest{CertificateRequest: csr})
	require.NoError(t, err)
	m.cert = &tls.Certificate{Certificate: [][]byte{resp.GetCertificate()}, PrivateKey: key}
	m.dial()
	_, err = m.hub.ListMembers(context.Background(), &pb.ListMembersRequest{})
	require.NoError(t, err)
}

func TestACertificateOfAnotherCAIsRefused(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	m := h.join("a", pb.Role_ROLE_OPERATOR)
	dir := filepath.Join(t.TempDir(), "ca")
	require.NoError(t, ca.Create(dir, "testport"))
	foreign, err := ca.Open(dir)
	require.NoError(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	der, err := foreign.IssueNode(csr, "a", 1, time.Now())
	require.NoError(t, err)
	m.cert = &tls.Certificate{Certificate: [][]byte{der, foreign.Certificate().Raw}, PrivateKey: key}
	m.dial()
	_, err = m.hub.ListMembers(context.Background(), &pb.ListMembersRequest{})
	require.Error(t, err)
	require.Equal(t, 4, rpc.ExitCode(err), "%v", err)
}

func TestAKnownMemberIsInvitedAgainOnlyAsWhatItIs(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	h.join("a", pb.Role_ROLE_OPERATOR, "ops")
	for _, req := range []*pb.InviteRequest{
		{Member: "a", Name: "別の名"}, {Member: "a", Role: pb.Role_ROLE_MINISTRY}, {Member: "a", Communities: []string{"others"}},
	} {
		_, err := h.Invite(context.Background(), req)
		require.Equal(t, codes.AlreadyExists, requireReason(t, err, "MEMBER_EXISTS").Code)
	}
	for _, req := range []*pb.InviteRequest{
		{Member: "a"}, {Member: "a", Name: "a の名", Role: pb.Role_ROLE_OPERATOR, Communities: []string{"ops"}},
	} {
		resp, err := h.Invite(context.Background(), req)
		require.NoError(t, err)
		_, err = joinWith(t, resp.GetToken())
		require.NoError(t, err)
	}
	m := h.directory().members["a"]
	require.Len(t, m.GetNodes(), 3)
	require.Equal(t, []string{"ops", "testport"}, m.GetCommunities())
}

func TestAnInvitationThatCannotBeMeantIsRefused(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	long := strings.Repeat("x", 64)
	for reason, req := range map[string]*pb.InviteRequest{
		"ID_INVALID":        {Member: "A", Name: "名", Role: pb.Role_ROLE_OPERATOR},
		"TTL_INVALID":       {Member: "a", Name: "名", Role: pb.Role_ROLE_OPERATOR, Ttl: durationpb.New(59 * time.Second)},
		"TEXT_TOO_LONG":     {Member: "a", Name: long + long + long + long, Role: pb.Role_ROLE_OPERATOR},
		"MEMBER_INCOMPLETE": {Member: "a", Name: "名"},
	} {
		_, err := h.Invite(context.Background(), req)
		requireReason(t, err, reason)
	}
	for _, req := range []*pb.InviteRequest{
		{Member: long, Name: "名", Role: pb.Role_ROLE_OPERATOR}, {Member: "a.b", Name: "名", Role: pb.Role_ROLE_OPERATOR},
		{Member: "a", Name: "名", Role: pb.Role_ROLE_OPERATOR, Communities: []string{"*"}},
	} {
		_, err := h.Invite(context.Background(), req)
		requireReason(t, err, "ID_INVALID")
	}
	_, err := h.Invite(context.Background(), &pb.InviteRequest{Member: "a", Name: "名", Role: pb.Role_ROLE_OPERATOR, Ttl: durationpb.New(721 * time.Hour)})
	requireReason(t, err, "TTL_INVALID")
	require.Empty(t, h.directory().members, "nothing was written")
}

func TestNoTokenIsMadeForAnAddressThatNobodyCanReach(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	path := filepath.Join(h.dir, "hub.toml")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, address := range []string{"0.0.0.0:7443", "[::]:7443", ":7443", "hub"} {
		h.config.Address = address
		_, err := h.Invite(context.Background(), &pb.InviteRequest{Member: "a", Name: "名", Role: pb.Role_ROLE_OPERATOR})
		require.Equal(t, codes.FailedPrecondition, requireReason(t, err, "ADDRESS_UNUSABLE").Code, address)
	}
	require.Contains(t, string(text), "address = '"+h.Addr()+"'", "init writes the address that is asked for here")
}

func TestARevokedMemberIsOutAtOnce(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	from, out, stays := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_OPERATOR)
	overGRPC, overNATS := out.open(t, pb.Lane_LANE_LIVE, viaGRPC), out.open(t, pb.Lane_LANE_EXERCISE, viaNATS)
	other := stays.open(t, pb.Lane_LANE_LIVE, viaNATS)
	overGRPC.heartbeat()
	overNATS.heartbeat()
	before := firstReport("b", "c")
	_, err := from.submit(before, newID())
	require.NoError(t, err)
	overGRPC.confirm(overGRPC.delivery(), pb.ReceiptState_RECEIPT_STATE_STORED)
	pending := h.inviteAgain("b")

	_, err = h.Revoke(context.Background(), &pb.RevokeRequest{Member: "b", Reason: "試験"})
	require.NoError(t, err)

	require.Equal(t, codes.Unauthenticated, requireReason(t, overGRPC.end(), "NOT_ENROLLED").Code, "the open stream ends")
	require.Error(t, overNATS.end(), "the open NATS connection ends")
	for method, streams := range methods() {
		if method != pb.HubService_Join_FullMethodName {
			err := call(out.conn, method, streams)
			require.Equal(t, codes.Unauthenticated, requireReason(t, err, "NOT_ENROLLED").Code, method)
		}
	}
	out.dial()
	_, err = out.hub.ListMembers(context.Background(), &pb.ListMembersRequest{})
	require.Equal(t, 4, rpc.ExitCode(err), "a new connection: %v", err)
	_, err = out.natsConn()
	require.Error(t, err, "a new NATS connection")
	_, err = joinAs(t, pending, honest(pending))
	requireReason(t, err, "TOKEN_BURNT")
	_, err = h.Invite(context.Background(), &pb.InviteRequest{Member: "b"})
	requireReason(t, err, "MEMBER_REVOKED")

	_, err = from.submit(firstReport("b"), newID())
	requireReason(t, err, "RECIPIENT_UNKNOWN")
	everybody := firstReport()
	everybody.Tlp = pb.TlpLabel_TLP_LABEL_CLEAR
	_, err = from.submit(everybody, newID())
	require.NoError(t, err)
	require.Equal(t, before.GetReportId(), other.delivery().GetReportId())
	require.Equal(t, everybody.GetReportId(), other.delivery().GetReportId())
	require.Empty(t, overGRPC.rest(), "nothing more is delivered")
	require.Empty(t, overNATS.rest(), "nothing more is delivered")

	h.restart(nil)
	out.dial()
	_, err = out.hub.ListMembers(context.Background(), &pb.ListMembersRequest{})
	require.Equal(t, 4, rpc.ExitCode(err), "after a restart: %v", err)
	_, err = h.Revoke(context.Background(), &pb.RevokeRequest{Member: "b"})
	require.NoError(t, err, "revoking again changes nothing")
	_, err = h.Revoke(context.Background(), &pb.RevokeRequest{Member: "nobody"})
	requireReason(t, err, "MEMBER_UNKNOWN")
}

// inviteAgain invites a known member for one more node.
func (h *testHub) inviteAgain(member string) ca.Token {
	h.t.Helper()
	inv, err := h.Invite(context.Background(), &pb.InviteRequest{Member: member})
	require.NoError(h.t, err)
	tok, err := ca.ParseToken(inv.GetToken())
	require.NoError(h.t, err)
	return tok
}

func TestAMemberThatHasNotJoinedOrIsOutIsNotListedNotEvenInAPageToken(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	m := h.join("a", pb.Role_ROLE_OPERATOR)
	h.invite("b-invited")
	h.join("c-revoked", pb.Role_ROLE_OPERATOR)
	h.join("d", pb.Role_ROLE_OPERATOR)
	_, err := h.Revoke(context.Background(), &pb.RevokeRequest{Member: "c-revoked"})
	require.NoError(t, err)
	var listed, tokens []string
	for token := ""; ; {
		resp, err := m.hub.ListMembers(context.Background(), &pb.ListMembersRequest{PageSize: 1, PageToken: token})
		require.NoError(t, err)
		for _, member := range resp.GetMembers() {
			listed = append(listed, member.GetId())
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
		tokens = append(tokens, token)
	}
	require.Equal(t, []string{"a", "d"}, listed)
	require.Equal(t, []string{"a"}, tokens)
}
