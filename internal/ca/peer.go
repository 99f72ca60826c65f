package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrIdentity: a certificate does not name one node of a member.
var ErrIdentity = errors.New("certificate names no node")

// Peer is who a certificate says that its holder is.
type Peer struct {
	// Port and Member are ids as ValidID has them.
	Port, Member string
	// Node is the number of the node within the member, from 1.
	Node uint32
	// Fingerprint is the SHA-256 of the certificate.
	Fingerprint [32]byte
	// NotAfter is the certificate's end.
	NotAfter time.Time
}

// PeerOf reads the identity from a certificate whose chain has been verified.
// The certificate must have exactly one name, the URI
// minato://<port>/member/<id>/node/<n>, byte for byte; common names and other
// kinds of names are never looked at, and more than one name is refused.
func PeerOf(cert *x509.Certificate) (Peer, error) {
	names, err := uriNames(cert)
	if err != nil {
		return Peer{}, err
	}
	if len(names) != 1 || cert.IsCA {
		return Peer{}, ErrIdentity
	}
	rest, ok := strings.CutPrefix(names[0], uriScheme)
	part := strings.Split(rest, "/")
	if !ok || len(part) != 5 || part[1] != "member" || part[3] != "node" || !ValidID(part[0]) || !ValidID(part[2]) {
		return Peer{}, ErrIdentity
	}
	node, err := strconv.ParseUint(part[4], 10, 32)
	if err != nil || node == 0 || strconv.FormatUint(node, 10) != part[4] {
		return Peer{}, ErrIdentity
	}
	return Peer{
		Port:        part[0],
		Member:      part[2],
		Node:        uint32(node),
		Fingerprint: sha256.Sum256(cert.Raw),
		NotAfter:    cert.NotAfter,
	}, nil
}

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// uriNames reads the names of a certificate, all of which must be URIs, as
// the bytes stand: a URL parser drops an empty fragment and the like.
func uriNames(cert *x509.Certificate) ([]string, error) {
	var names []string
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(subjectAltName) {
			continue
		}
		var seq asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &seq); err != nil || len(rest) > 0 {
			return nil, ErrIdentity
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil || name.Class != asn1.ClassContextSpecific || name.Tag != 6 {
				return nil, ErrIdentity
			}
			names = append(names, string(name.Bytes))
		}
	}
	return names, nil
}

// ValidID tells whether s may be the id of a port, member or community: 1 to
// 63 characters of a-z, 0-9 and hyphen.
func ValidID(s string) bool {
	if len(s) < 1 || len(s) > maxIDLength {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func invalidID(field, id string) error {
	return &told{
		en: fmt.Sprintf("%s = %.80q: an id has 1 to 63 characters of a-z, 0-9 and hyphen.", field, id),
		ja: fmt.Sprintf("%s = %.80q: ID は a-z、0-9、ハイフンの 1 から 63 文字です。", field, id),
	}
}
