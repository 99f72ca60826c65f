package rpc

import (
	"context"
	"errors"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"minato.example/internal/ca"
)

type peerKey struct{}

// PeerFrom tells who is calling: the identity in the verified client
// certificate. False on calls without one, and on local sockets.
func PeerFrom(ctx context.Context) (ca.Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(ca.Peer)
	return p, ok
}

// ContextWithPeer is the context of a call by p, as a handler sees it.
func ContextWithPeer(ctx context.Context, p ca.Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// identify reads the identity of the connection; false without a certificate.
// An unreadable one is an error, although the handshake let none through.
func identify(ctx context.Context) (ca.Peer, bool, error) {
	info, ok := tlsOf(ctx)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return ca.Peer{}, false, nil
	}
	if len(info.State.VerifiedChains) == 0 {
		return ca.Peer{}, false, ca.ErrIdentity
	}
	p, err := ca.PeerOf(info.State.PeerCertificates[0])
	return p, err == nil, err
}

func tlsOf(ctx context.Context) (credentials.TLSInfo, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return credentials.TLSInfo{}, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	return info, ok
}

// The label and length of the exporter value (RFC 8446, 7.5) that a join is
// bound to.
const (
	exporterLabel = "EXPORTER-minato-join"
	exporterSize  = 32
)

// Exporter gives the exporter value of the TLS connection that carries the
// call: 32 bytes that only the two ends of this very connection share.
func Exporter(ctx context.Context) ([]byte, error) {
	info, ok := tlsOf(ctx)
	if !ok {
		return nil, errors.New("the call did not come over TLS")
	}
	return info.State.ExportKeyingMaterial(exporterLabel, nil, exporterSize)
}
