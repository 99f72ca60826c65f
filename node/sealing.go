package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// The hub is blind to TLP:RED and TLP:AMBER+STRICT. What it does for other
// reports the sending node does for these: it checks the content, builds the
// form of each flow that the hub's plan gives, and seals each to those who may
// have it. The hub learns the outline, who gets which flow, and sizes.

// limits are those that the contract states; the hub's may be lower.
var limits = check.Limits{Report: 1 << 20, Part: maxPart, Parts: 4 * maxPart}

// checkContent holds a report that the hub will not read against what the hub
// demands of those that it does read.
func checkContent(r *pb.Report) error {
	return refuseAll(codes.InvalidArgument, check.Report(r, r.GetLane(), limits))
}

// refuseAll makes one refusal of all violations; nil when there are none.
func refuseAll(code codes.Code, bad []rpc.Violation) error {
	if len(bad) == 0 {
		return nil
	}
	return &rpc.Refusal{Code: code, Reason: bad[0].Reason, Violations: bad}
}

// form is a report as the recipients of one flow get it.
type form struct {
	flow   pb.Flow
	named  bool
	report *pb.Report
	bundle []byte // STIX bundle of a projection, which is in no store
	// What it lacks and what it has in a coarser form.
	withheld, generalised []string
}

func (f *form) variant() seal.Variant {
	return seal.Variant{Report: f.report.GetReportId(), Lane: f.report.GetLane(), Flow: f.flow, Named: f.named}
}

// formsOf builds the form for each flow of the copies. What cannot be built is
// a refusal that says what to do.
func (n *Node) formsOf(ctx context.Context, r *pb.Report, copies []*pb.Copy) ([]*form, error) {
	var forms []*form
	var bad []rpc.Violation
	for _, c := range copies {
		if formFor(forms, c) >= 0 {
			continue
		}
		f, wrong, err := n.project(ctx, r, c.GetFlow(), c.GetNamed())
		if err != nil {
			return nil, err
		}
		bad = append(bad, wrong...)
		forms = append(forms, f)
	}
	return forms, refuseAll(codes.FailedPrecondition, bad)
}

// formFor is the place of the form that a copy gets; -1 when there is none.
func formFor(forms []*form, c *pb.Copy) int {
	for i, f := range forms {
		if f.flow == c.GetFlow() && f.named == c.GetNamed() {
			return i
		}
	}
	return -1
}

// holdersOfAll are the holders of each copy, all violations at once.
func (n *Node) holdersOfAll(ctx context.Context, copies []*pb.Copy) ([][]holderKey, error) {
	book, err := n.openKeybook(ctx)
	if err != nil {
		return nil, err
	}
	all := make([][]holderKey, len(copies))
	var bad []rpc.Violation
	now := time.Now()
	for i, c := range copies {
		holders, wrong := book.holdersOf(c, now)
		all[i], bad = holders, append(bad, wrong...)
	}
	return all, refuseAll(codes.FailedPrecondition, bad)
}

// sealed is what sealing made.
type sealed struct {
	variants []*pb.SealedVariant
	wraps    []*pb.Wrap
	keys     [][]byte // content keys, in the order of variants
}

// parts are the digests of all ciphertexts.
func (s *sealed) parts() (digests [][]byte) {
	for _, v := range s.variants {
		for _, p := range ciphertexts(v) {
			digests = append(digests, p.GetDigest())
		}
	}
	return digests
}

// ciphertexts are all that a variant names: its content, then its parts.
func ciphertexts(v *pb.SealedVariant) []*pb.Part {
	return append([]*pb.Part{v.GetContent()}, v.GetParts()...)
}

// seal builds and seals what the copies ask for. have are variants that the
// report has already, with their keys: holders of those need a wrap only.
func (n *Node) seal(ctx context.Context, r *pb.Report, copies []*pb.Copy, have []*pb.SealedVariant, haveKeys [][]byte) (*sealed, error) {
	holders, err := n.holdersOfAll(ctx, copies)
	if err != nil {
		return nil, err
	}
	existing := func(c *pb.Copy) int {
		for i, v := range have {
			if v.GetFlow() == c.GetFlow() && v.GetNamed() == c.GetNamed() {
				return i
			}
		}
		return -1
	}
	var missing []*pb.Copy
	for _, c := range copies {
		if existing(c) < 0 {
			missing = append(missing, c)
		}
	}
	forms, err := n.formsOf(ctx, r, missing)
	if err != nil {
		return nil, err
	}
	made := new(sealed)
	for _, f := range forms {
		v, key, err := n.sealForm(ctx, f)
		if err != nil {
			return nil, err
		}
		made.variants, made.keys = append(made.variants, v), append(made.keys, key)
	}
	for i, c := range copies {
		at, v, key := existing(c), (*pb.SealedVariant)(nil), []byte(nil)
		if at >= 0 {
			v, key = have[at], haveKeys[at]
		} else {
			j := formFor(forms, c)
			at, v, key = len(have)+j, made.variants[j], made.keys[j]
		}
		about := seal.Variant{Report: r.GetReportId(), Lane: r.GetLane(), Flow: v.GetFlow(), Named: v.GetNamed()}
		for _, h := range holders[i] {
			w, err := seal.Wrap(h.key, key, about, v.GetContent().GetDigest(), h.holder)
			if err != nil {
				return nil, err
			}
			made.wraps = append(made.wraps, &pb.Wrap{
				Member: h.holder.Member, Person: h.holder.Person, Node: h.holder.Node, KeyId: h.key.ID(), Variant: uint32(at), SealedKey: w,
			})
		}
	}
	return made, nil
}

// sealForm seals one form under a fresh key and stores the ciphertexts.
func (n *Node) sealForm(ctx context.Context, f *form) (*pb.SealedVariant, []byte, error) {
	key, v := seal.NewContentKey(), &pb.SealedVariant{Flow: f.flow, Named: f.named}
	content := &pb.SealedContent{Salt: seal.NewSalt()}
	for i, p := range f.report.Parts() {
		plain, err := n.partOf(ctx, f, p)
		if err != nil {
			return nil, nil, err
		}
		stored, err := n.sealPart(ctx, key, f.variant(), seal.PartPurpose(i), plain)
		if err != nil {
			return nil, nil, err
		}
		v.Parts, content.SealedParts = append(v.Parts, stored), append(content.SealedParts, stored.GetDigest())
	}
	var err error
	if content.Report, err = proto.Marshal(f.report); err != nil {
		return nil, nil, fmt.Errorf("encode report: %w", err)
	}
	plain, err := proto.Marshal(content)
	if err != nil {
		return nil, nil, fmt.Errorf("encode content: %w", err)
	}
	if v.Content, err = n.sealPart(ctx, key, f.variant(), seal.Content, plain); err != nil {
		return nil, nil, err
	}
	v.Commitment = seal.Commitment(content.GetSalt(), content.GetReport())
	return v, key, nil
}

// partOf reads the bytes of a part of a form.
func (n *Node) partOf(ctx context.Context, f *form, p *pb.Part) ([]byte, error) {
	if b := f.report.GetAttackTechnical().GetStixBundle(); f.bundle != nil && bytes.Equal(b.GetDigest(), p.GetDigest()) {
		return f.bundle, nil
	}
	return n.store.readPart(ctx, p.GetDigest())
}

// sealPart seals bytes and stores the ciphertext as a part of its own.
func (n *Node) sealPart(ctx context.Context, key []byte, v seal.Variant, purpose string, plain []byte) (*pb.Part, error) {
	ciphertext, err := seal.SealContent(key, v, purpose, plain)
	if err != nil {
		return nil, err
	}
	// Every part has a class; that of a ciphertext says nothing of its content.
	class := &pb.Part{Class: pb.DisclosureClass_DISCLOSURE_CLASS_MESSAGE}
	return n.store.addPart(ctx, class, bytes.NewReader(ciphertext), int64(len(ciphertext)))
}

// readPart reads a whole part into memory.
func (s *store) readPart(ctx context.Context, digest []byte) ([]byte, error) {
	in, err := s.partReader(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

// planOutline asks the hub what it would do with a report that it may not
// read, and makes sure that the directory here is as new as the decision.
func (n *Node) planOutline(ctx context.Context, r *pb.Report) (*pb.Plan, error) {
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	resp, err := n.hub.PlanReport(call, &pb.PlanReportRequest{Outline: r.Outline()})
	if err != nil {
		return nil, err
	}
	return resp.GetPlan(), n.knowDirectory(ctx, resp.GetPlan().GetDirectoryRevision())
}

// knowDirectory fetches the directory when the one here is older than a
// revision.
func (n *Node) knowDirectory(ctx context.Context, revision uint64) error {
	_, have, err := n.store.directory(ctx)
	if err != nil || have >= revision {
		return err
	}
	return n.fetchDirectory(ctx)
}

// sealQueued seals a report of the outbox for the plan of the moment and keeps
// the result: every further try sends the same bytes.
func (n *Node) sealQueued(ctx context.Context, row *outboxRow, r *pb.Report) error {
	plan, err := n.planOutline(ctx, r)
	if err != nil {
		return err
	}
	made, err := n.seal(ctx, r, plan.GetCopies(), nil, nil)
	if err != nil {
		return err
	}
	env, err := seal.SignSealed(n.id.signing, &pb.SealedReport{
		Outline: r.Outline(), Suite: seal.SealedSuite(n.config.profile().Suite), Variants: made.variants, Wraps: made.wraps,
	})
	if err != nil {
		return err
	}
	encoded, err := proto.Marshal(env)
	if err != nil {
		return err
	}
	if err := n.store.setSealed(ctx, row.reportID, encoded, made.keys, made.parts()); err != nil {
		return err
	}
	row.envelope, row.contentKeys = encoded, made.keys
	return nil
}

// planChanged reports whether the hub's decision is no longer the one that a
// report was sealed for.
func planChanged(err error) bool {
	refusal, ok := rpc.RefusalOf(err)
	return ok && refusal.Reason == "PLAN_CHANGED"
}

// sealedIn reads the sealed report of an outbox row.
func sealedIn(row outboxRow) (*pb.SealedReport, error) {
	env, s := new(pb.Envelope), new(pb.SealedReport)
	if err := errors.Join(proto.Unmarshal(row.envelope, env), proto.Unmarshal(env.GetPayload(), s)); err != nil {
		return nil, fmt.Errorf("read sealed report from outbox: %w", err)
	}
	return s, nil
}
