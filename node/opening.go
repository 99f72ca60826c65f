package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"minato.example/internal/check"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// lock is one sealed variant that a delivery gives, with the wraps for the
// member.
type lock struct {
	outline *pb.Outline
	variant *pb.SealedVariant
	wraps   []*pb.Wrap
}

func (l *lock) about() seal.Variant {
	return seal.Variant{Report: l.outline.GetReportId(), Lane: l.outline.GetLane(), Flow: l.variant.GetFlow(), Named: l.variant.GetNamed()}
}

// lockOf finds the variant of a delivery in the header that its source has
// signed. Wraps and variants that the source has added since are in the
// instruction, which one of its nodes has signed.
func lockOf(lane pb.Lane, d *pb.Delivery, signers []ed25519.PublicKey) (*lock, error) {
	s, err := seal.VerifySealed(d.GetEnvelope(), lane, d.GetSourceKey())
	if err != nil {
		return nil, fmt.Errorf("header of the sealed report: %w", err)
	}
	variants, wraps := s.GetVariants(), s.GetWraps()
	if d.GetInstruction() != nil {
		f, err := forwardOf(lane, d, signers)
		if err != nil {
			return nil, err
		}
		if err := seal.CheckSealed(f.GetVariants(), f.GetWraps(), len(variants)); err != nil {
			return nil, err
		}
		variants, wraps = append(slices.Clone(variants), f.GetVariants()...), append(slices.Clone(wraps), f.GetWraps()...)
	}
	return lockIn(lane, d, s.GetOutline(), variants, wraps)
}

// lockOfCopy is lockOf for a copy of one variant, for which the hub signs
// instead of the source: it has put the wraps into it wherever they came from.
func lockOfCopy(lane pb.Lane, d *pb.Delivery, hub ed25519.PublicKey) (*lock, error) {
	s, err := seal.VerifySealedCopy(d.GetEnvelope(), lane, hub)
	if err != nil {
		return nil, fmt.Errorf("header of the sealed copy: %w", err)
	}
	if d.GetCopy().GetFlow() == pb.Flow_FLOW_AUTHORITY {
		return nil, errors.New("a whole report that its source has not signed")
	}
	return lockIn(lane, d, s.GetOutline(), s.GetVariants(), s.GetWraps())
}

// lockIn chooses the variant and the wraps of a delivery.
func lockIn(lane pb.Lane, d *pb.Delivery, outline *pb.Outline, variants []*pb.SealedVariant, wraps []*pb.Wrap) (*lock, error) {
	c, label := d.GetCopy(), check.Label(outline.GetTlp())
	switch {
	case !isID(outline.GetReportId(), 32) || outline.GetReportId() != d.GetReportId() || d.GetLane() != lane:
		return nil, errors.New("the report is not the one announced")
	case !label.NeedsSeal():
		return nil, errors.New("a sealed report under a label that is not sealed")
	case label.NeedsPersons() != (len(c.GetPersons()) > 0):
		return nil, errors.New("TLP:RED goes to named persons, and nothing else does")
	}
	// The last one, since what was added later is what the copy was given for.
	for i, v := range slices.Backward(variants) {
		if v.GetFlow() != c.GetFlow() || v.GetNamed() != c.GetNamed() {
			continue
		}
		l := &lock{outline: outline, variant: v}
		for _, w := range wraps {
			if int(w.GetVariant()) == i && w.GetMember() == c.GetMember() && (w.GetPerson() != "") == label.NeedsPersons() &&
				(w.GetPerson() == "" || slices.Contains(c.GetPersons(), w.GetPerson())) {
				l.wraps = append(l.wraps, w)
			}
		}
		if len(l.wraps) > 0 {
			return l, nil
		}
	}
	return nil, errors.New("nothing in the sealed report is for this member")
}

// lockAgain is lockOf for a delivery whose signatures were verified when it
// came.
func lockAgain(d *pb.Delivery) (*lock, error) {
	s, i := new(pb.SealedReport), new(pb.Instruction)
	if proto.Unmarshal(d.GetEnvelope().GetPayload(), s) != nil {
		return nil, errors.New("malformed sealed report")
	}
	if d.GetEnvelope().GetPayloadType() == seal.SealedReportType(d.GetLane()) && proto.Unmarshal(d.GetInstruction().GetPayload(), i) != nil {
		return nil, errors.New("malformed instruction")
	}
	return lockIn(d.GetLane(), d, s.GetOutline(), append(s.GetVariants(), i.GetForward().GetVariants()...), append(s.GetWraps(), i.GetForward().GetWraps()...))
}

// forwardOf opens the instruction by which the source gave this copy.
func forwardOf(lane pb.Lane, d *pb.Delivery, signers []ed25519.PublicKey) (*pb.Forward, error) {
	for _, key := range signers {
		i, err := seal.VerifyInstruction(d.GetInstruction(), key)
		if errors.Is(err, seal.ErrSignature) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("instruction of the source: %w", err)
		}
		if i.GetReportId() != d.GetReportId() || i.GetLane() != lane || i.GetForward() == nil {
			return nil, errors.New("the instruction is for something else")
		}
		return i.GetForward(), nil
	}
	return nil, errors.New("the instruction is not by the source")
}

// unlock opens the content of a variant with one private key.
func (l *lock) unlock(w *pb.Wrap, key *seal.PrivateKey, content []byte) (*pb.Report, *pb.SealedContent, []byte, error) {
	digest := sha256.Sum256(content)
	if !bytes.Equal(digest[:], l.variant.GetContent().GetDigest()) {
		return nil, nil, nil, errors.New("the sealed content is not the one that was signed")
	}
	contentKey, err := key.Unwrap(w.GetSealedKey(), l.about(), digest[:], seal.Holder{Member: w.GetMember(), Person: w.GetPerson(), Node: w.GetNode()})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("content key: %w", err)
	}
	plain, err := seal.OpenContent(contentKey, l.about(), seal.Content, content)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("content: %w", err)
	}
	c, r := new(pb.SealedContent), new(pb.Report)
	if proto.Unmarshal(plain, c) != nil || proto.Unmarshal(c.GetReport(), r) != nil {
		return nil, nil, nil, errors.New("malformed content")
	}
	if len(c.GetSalt()) != 32 || !bytes.Equal(seal.Commitment(c.GetSalt(), c.GetReport()), l.variant.GetCommitment()) {
		return nil, nil, nil, errors.New("the content is not what its source has committed to")
	}
	if err := l.agrees(r); err != nil {
		return nil, nil, nil, err
	}
	parts := r.Parts()
	if len(parts) != len(c.GetSealedParts()) || len(parts) != len(l.variant.GetParts()) {
		return nil, nil, nil, errors.New("content and header name different parts")
	}
	for i, p := range l.variant.GetParts() {
		if !bytes.Equal(p.GetDigest(), c.GetSealedParts()[i]) {
			return nil, nil, nil, errors.New("content and header name different parts")
		}
	}
	return r, c, contentKey, nil
}

// agrees holds what was sealed against the header on which the hub has decided:
// a report that is stricter inside than outside has gone to people who must not
// have it, and one that is looser would be passed on. Of a projection only what
// both still have is compared.
func (l *lock) agrees(r *pb.Report) error {
	inner, outer := r.Outline(), l.outline
	if l.variant.GetFlow() == pb.Flow_FLOW_AUTHORITY {
		if !proto.Equal(inner, outer) {
			return errors.New("header and content differ")
		}
		if bad := check.Report(r, outer.GetLane(), limits); len(bad) > 0 {
			return fmt.Errorf("the content is not sound: %s %s", bad[0].Field, bad[0].Reason)
		}
		return nil
	}
	if bad := check.Message("", r.ProtoReflect(), false); len(bad) > 0 {
		return fmt.Errorf("the content is not sound: %s %s", bad[0].Field, bad[0].Reason)
	}
	if inner.GetReportId() != outer.GetReportId() || inner.GetLane() != outer.GetLane() || inner.GetTlp() != outer.GetTlp() ||
		!proto.Equal(inner.GetRestrictions(), outer.GetRestrictions()) || inner.GetSecrecyRegime() != outer.GetSecrecyRegime() {
		return errors.New("header and content differ")
	}
	for _, f := range []struct{ set, same bool }{
		{inner.GetCaseId() != "", inner.GetCaseId() == outer.GetCaseId()},
		{inner.GetSequence() != 0, inner.GetSequence() == outer.GetSequence()},
		{inner.GetStage() != 0, inner.GetStage() == outer.GetStage()},
		{inner.GetCommunityId() != "", inner.GetCommunityId() == outer.GetCommunityId()},
		{len(inner.GetDerivedFrom()) > 0 && len(outer.GetDerivedFrom()) > 0, slices.Equal(inner.GetDerivedFrom(), outer.GetDerivedFrom())},
		{inner.GetRelabels() != "", inner.GetRelabels() == outer.GetRelabels()},
	} {
		if f.set && !f.same {
			return errors.New("header and content differ")
		}
	}
	return nil
}

// arriveSealed opens a sealed report with a key of this node, or of a person
// for whom the node opens. What is sealed to persons whose keys are elsewhere
// is stored as it is.
func (n *Node) arriveSealed(ctx context.Context, lane pb.Lane, d *pb.Delivery) (arrival, error) {
	l, unlisted, err := n.lockFor(ctx, lane, d)
	if errors.Is(err, errUnchecked) {
		return arrival{}, err
	}
	if err != nil {
		return arrival{}, reject("%w", err)
	}
	a := arrival{delivery: d, outline: l.outline, unlisted: unlisted}
	if err := n.havePart(ctx, lane, d.GetReportId(), l.variant.GetContent()); err != nil {
		return arrival{}, err
	}
	w, key := n.keyFor(l)
	if key == nil {
		a.ciphertexts = [][]byte{l.variant.GetContent().GetDigest()}
		return a, nil
	}
	content, err := n.store.readPart(ctx, l.variant.GetContent().GetDigest())
	if err != nil {
		return arrival{}, err
	}
	r, _, contentKey, err := l.unlock(w, key, content)
	if err != nil {
		return arrival{}, reject("%w", err)
	}
	a.report, a.opened, a.parts = r, true, r.Parts()
	for i, p := range a.parts {
		if err := n.openPart(ctx, l, contentKey, i, p); err != nil {
			return arrival{}, err
		}
	}
	a.observables, err = n.observablesOf(ctx, r)
	return a, err
}

// lockFor verifies the header of a sealed delivery. unlisted says that the
// directory does not have its source.
func (n *Node) lockFor(ctx context.Context, lane pb.Lane, d *pb.Delivery) (l *lock, unlisted bool, err error) {
	if d.GetEnvelope().GetPayloadType() == seal.SealedCopyType(lane) {
		l, err = lockOfCopy(lane, d, n.id.hubKey)
		return l, false, err
	}
	if unlisted, err = n.checkSource(ctx, d.GetSource(), d.GetSourceKey()); err != nil {
		return nil, false, err
	}
	signers := []ed25519.PublicKey{d.GetSourceKey()}
	for _, key := range (*n.signers.Load())[d.GetSource()] {
		signers = append(signers, key)
	}
	l, err = lockOf(lane, d, signers)
	return l, unlisted, err
}

// keyFor finds a wrap that a key held here opens.
func (n *Node) keyFor(l *lock) (*pb.Wrap, *seal.PrivateKey) {
	for _, w := range l.wraps {
		if w.GetPerson() == "" && w.GetNode() != n.id.number {
			continue
		}
		if key := n.keys.find(w.GetPerson(), w.GetKeyId()); key != nil {
			return w, key
		}
	}
	return nil, nil
}

// openPart fetches and opens the ith part and stores its bytes.
func (n *Node) openPart(ctx context.Context, l *lock, contentKey []byte, i int, p *pb.Part) error {
	if have, err := n.store.hasPart(ctx, p.GetDigest()); err != nil || have {
		return err
	}
	sealed := l.variant.GetParts()[i]
	if err := n.havePart(ctx, l.outline.GetLane(), l.outline.GetReportId(), sealed); err != nil {
		return err
	}
	ciphertext, err := n.store.readPart(ctx, sealed.GetDigest())
	if err != nil {
		return err
	}
	plain, err := seal.OpenContent(contentKey, l.about(), seal.PartPurpose(i), ciphertext)
	if err != nil {
		return reject("part: %w", err)
	}
	if digest := sha256.Sum256(plain); !bytes.Equal(digest[:], p.GetDigest()) || uint64(len(plain)) != p.GetSize() {
		return reject("part: %w", errDigest)
	}
	_, err = n.store.addPart(ctx, nil, bytes.NewReader(plain), int64(len(plain)))
	return err
}

// OpenSealed opens a report that is sealed to a person, with the person's own
// key, outside of the node. d and content are what GetSealed gave: the node has
// verified the signatures when it received them, and everything that the seal
// binds is verified here. The error never holds a word of the content.
func OpenSealed(d *pb.Delivery, content []byte, person string, key *seal.PrivateKey) (*pb.Report, error) {
	l, err := lockAgain(d)
	if err != nil {
		return nil, err
	}
	id := key.Public().ID()
	for _, w := range l.wraps {
		if w.GetPerson() == person && w.GetKeyId() == id {
			r, _, _, err := l.unlock(w, key, content)
			return r, err
		}
	}
	return nil, fmt.Errorf("the report is not sealed to key %s of %q", id, person)
}
