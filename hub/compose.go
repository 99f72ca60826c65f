package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"minato.example/anonymizer"
	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// composed is what the copies of a plan hold beside the report itself.
type composed struct {
	projections []*pb.Projection
	made        []made // parts that the hub made
}

// made is a part that a projection names and that has to be stored.
type made struct {
	part *pb.Part
	data []byte
}

func (c composed) parts() (all []*pb.Part) {
	for _, m := range c.made {
		all = append(all, m.part)
	}
	return all
}

// content is a report that copies are made from: as its source signed it, or as
// a holder that passes it on has it.
type content struct {
	report *pb.Report
	digest []byte // of the signed payload
	names  []string
	bundle func() ([]byte, error) // the STIX bundle; nil when there is none
}

// compose works out what each copy of a plan holds and writes it into the copy.
// A copy of the whole report is the report as it was signed; every other is
// built field by field for its flow and signed by the hub, since a signature of
// the source over other bytes would be none. What would be empty, or still name
// the source, is refused before anything is sent.
func (h *Hub) compose(l *lane, p *pb.Plan, from content) (composed, []rpc.Violation, error) {
	var out composed
	var bad []rpc.Violation
	for _, c := range p.GetCopies() {
		if c.GetFlow() == pb.Flow_FLOW_AUTHORITY {
			c.PayloadDigest, c.Parts = from.digest, nil
			for _, part := range from.report.Parts() {
				c.Parts = append(c.Parts, part.GetDigest())
			}
			continue
		}
		// The same flow gives the same copy.
		if i := slices.IndexFunc(p.GetCopies(), func(o *pb.Copy) bool { return o.GetFlow() == c.GetFlow() && o.GetPayloadDigest() != nil }); i >= 0 {
			same := p.GetCopies()[i]
			c.PayloadDigest, c.Parts, c.Withheld, c.Generalised = same.PayloadDigest, same.Parts, same.Withheld, same.Generalised
			continue
		}
		var bundle []byte
		var err error
		if from.bundle != nil && from.report.GetAttackTechnical().GetStixBundle() != nil {
			if bundle, err = from.bundle(); err != nil {
				return out, nil, err
			}
		}
		built, err := anonymizer.Project(from.report, c.GetFlow(), bundle)
		if err != nil {
			bad = append(bad, bundleUnusable(err))
			continue
		}
		bad = append(bad, remaining(c, built, from.names)...)
		payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(built.Report)
		if err != nil {
			return out, nil, fmt.Errorf("encode copy: %w", err)
		}
		digest := sha256.Sum256(payload)
		projection := &pb.Projection{Envelope: seal.Sign(h.key, seal.CopyType(l.kind), payload), PayloadDigest: digest[:]}
		if b := built.Report.GetAttackTechnical().GetStixBundle(); b != nil {
			out.made = append(out.made, made{b, built.Bundle})
			projection.Parts = append(projection.Parts, b)
		}
		c.PayloadDigest, c.Withheld, c.Generalised = digest[:], built.Withheld, built.Generalised
		for _, part := range built.Report.Parts() {
			c.Parts = append(c.Parts, part.GetDigest())
		}
		out.projections = append(out.projections, projection)
	}
	return out, bad, nil
}

// remaining refuses a copy that would tell nothing, or that would still name
// the source where it must not.
func remaining(c *pb.Copy, built *anonymizer.Projected, names []string) (bad []rpc.Violation) {
	if !anonymizer.Remains(built.Report) {
		bad = append(bad, violation("attack_technical", "NOTHING_REMAINS",
			fmt.Sprintf("%s に渡せる内容がありません。件名・概要・被害は同業に渡りません。役立つ技術情報を --technical に書く、注意喚起として送る (--notice)、または開示に同意する (--peer-named --peer-damage) のいずれかにしてください。", c.GetName()),
			fmt.Sprintf("Nothing of the report may go to %s: title, summary and damage do not go to peers. Write what helps them into --technical, send it as a notice (--notice), or agree to disclose (--peer-named --peer-damage).", c.GetMember())))
	}
	if c.GetNamed() {
		return bad
	}
	for _, f := range anonymizer.Find(built.Report, names) {
		bad = append(bad, nameRemains(f.Field, f.Name))
	}
	if name, found := anonymizer.FindText(string(built.Bundle), names); found {
		bad = append(bad, nameRemains("attack_technical.stix_bundle", name))
	}
	return bad
}

func nameRemains(field, name string) rpc.Violation {
	return violation(field, "NAME_REMAINS",
		fmt.Sprintf("同業に渡る部分に自組織を示す「%s」が残っています。書き直すか、名前を示すことに同意してください (--peer-named)。", name),
		fmt.Sprintf("What goes to peers still holds %q, which names you. Reword it, or agree to be named (--peer-named).", name))
}

func bundleUnusable(err error) rpc.Violation {
	ja := "STIX バンドルを読み取れません。"
	if j, ok := errors.AsType[interface {
		error
		Japanese() string
	}](err); ok {
		ja = j.Japanese()
	}
	return violation("attack_technical.stix_bundle", "BUNDLE_INVALID", ja, err.Error())
}

// composeSealed writes into each copy what it gets of a report that the hub
// cannot read: the whole for those to whom the flow gives it, else a header
// with its own variant and its own wraps, signed by the hub, so that neither the
// source nor the other recipients show.
func (h *Hub) composeSealed(l *lane, p *pb.Plan, digest []byte, sealed *pb.SealedReport) (composed, error) {
	var out composed
	for _, c := range p.GetCopies() {
		i := variantFor(sealed, c)
		if i < 0 {
			return out, planChanged()
		}
		v := sealed.GetVariants()[i]
		c.Parts = append(c.Parts, v.GetContent().GetDigest())
		for _, part := range v.GetParts() {
			c.Parts = append(c.Parts, part.GetDigest())
		}
		if c.GetFlow() == pb.Flow_FLOW_AUTHORITY {
			c.PayloadDigest = digest
			continue
		}
		o := proto.CloneOf(sealed.GetOutline())
		o.Recipients, o.DerivedFrom, o.LegalBasis, o.Facts, o.Relabels = nil, nil, nil, nil, ""
		own := &pb.SealedReport{Outline: o, Suite: sealed.GetSuite(), Variants: []*pb.SealedVariant{v}}
		for _, w := range sealed.GetWraps() {
			if w.GetMember() == c.GetMember() && w.GetVariant() == uint32(i) {
				w = proto.CloneOf(w)
				w.Variant = 0
				own.Wraps = append(own.Wraps, w)
			}
		}
		payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(own)
		if err != nil {
			return out, fmt.Errorf("encode sealed copy: %w", err)
		}
		sum := sha256.Sum256(payload)
		c.PayloadDigest = sum[:]
		out.projections = append(out.projections, &pb.Projection{Envelope: seal.Sign(h.key, seal.SealedCopyType(l.kind), payload), PayloadDigest: sum[:]})
	}
	return out, nil
}

// variantFor is the index of the form of the content that a copy gets; -1 when
// there is none.
func variantFor(s *pb.SealedReport, c *pb.Copy) int {
	return slices.IndexFunc(s.GetVariants(), func(v *pb.SealedVariant) bool {
		return v.GetFlow() == c.GetFlow() && v.GetNamed() == c.GetNamed()
	})
}

// checkSeal holds the seals of a report against its plan: every recipient can
// open its form, and nobody else anything.
func checkSeal(s *pb.SealedReport, p *pb.Plan, w world) error {
	for _, wrap := range s.GetWraps() {
		c := copyFor(p, wrap.GetMember())
		if c == nil || int(wrap.GetVariant()) >= len(s.GetVariants()) || variantFor(s, c) != int(wrap.GetVariant()) ||
			(wrap.GetPerson() != "") != (len(c.GetPersons()) > 0) ||
			(wrap.GetPerson() != "" && !slices.Contains(c.GetPersons(), wrap.GetPerson())) ||
			!hasKey(w.dir.members[wrap.GetMember()], wrap) {
			return planChanged()
		}
	}
	for _, c := range p.GetCopies() {
		for _, person := range orNode(c.GetPersons()) {
			if !slices.ContainsFunc(s.GetWraps(), func(w *pb.Wrap) bool { return w.GetMember() == c.GetMember() && w.GetPerson() == person }) {
				return planChanged()
			}
		}
	}
	for _, v := range s.GetVariants() {
		if !slices.ContainsFunc(p.GetCopies(), func(c *pb.Copy) bool { return c.GetFlow() == v.GetFlow() && c.GetNamed() == v.GetNamed() }) {
			return planChanged()
		}
	}
	return nil
}

// orNode is the persons of a copy, or the one empty name that stands for the
// nodes of the member.
func orNode(persons []string) []string {
	if len(persons) == 0 {
		return []string{""}
	}
	return persons
}

// hasKey reports whether a wrap is for a key that its owner published.
func hasKey(m *pb.Member, w *pb.Wrap) bool {
	return slices.ContainsFunc(m.GetKeys(), func(k *pb.SignedKey) bool {
		e := k.GetEntry()
		id := sha256.Sum256(e.GetPublicKey())
		owner := e.GetPerson() == w.GetPerson() && (w.GetPerson() != "" || e.GetNode() == w.GetNode())
		return owner && fmt.Sprintf("%x", id[:8]) == w.GetKeyId()
	})
}

// planChanged asks the node to seal again: who gets the report, or a key, has
// changed since it asked.
func planChanged() error {
	return rpc.Refuse(codes.FailedPrecondition, "PLAN_CHANGED", "wraps",
		"封をした後に宛先か鍵が変わりました。自動で封をし直します。",
		"Recipients or keys have changed since the report was sealed. It is sealed again by itself.")
}

// keep stores the parts that the hub made, under the source's name as the
// other parts of the report.
func (h *Hub) keep(ctx context.Context, l *lane, source string, parts []made) error {
	for _, m := range parts {
		id := partID(source, m.part.GetDigest())
		p := storedPart{member: source, time: time.Now(), size: m.part.GetSize()}
		here, err := l.parts.begin(id, p, 4*uint64(h.limits.Parts))
		if err != nil {
			return err
		}
		if here {
			continue
		}
		err = h.journal.PutPart(ctx, journal.Lane(l.kind), id, bytes.NewReader(m.data))
		l.parts.end(id)
		if errors.As(err, new(*journal.ExistsError)) {
			err = h.verifyPart(ctx, l, id, m.part)
		}
		if err != nil {
			return unavailable("store part of a copy", err)
		}
		l.parts.put(id, p)
	}
	return nil
}

// bundleOf reads the STIX bundle that a report of source names.
func (h *Hub) bundleOf(ctx context.Context, l *lane, source string, r *pb.Report) func() ([]byte, error) {
	p := r.GetAttackTechnical().GetStixBundle()
	if p == nil {
		return nil
	}
	return func() ([]byte, error) {
		in, err := h.journal.OpenPart(ctx, journal.Lane(l.kind), partID(source, p.GetDigest()))
		if err != nil {
			return nil, fmt.Errorf("open bundle: %w", err)
		}
		defer in.Close()
		return io.ReadAll(in)
	}
}

// namesOf is what names a member in text.
func (w world) namesOf(id string) []string {
	m := w.dir.members[id]
	return slices.DeleteFunc(anonymizer.Names(m.GetProfile(), m), func(n string) bool { return strings.TrimSpace(n) == "" })
}

// namedInWords refuses what the restrictions say in words where that names the
// source to somebody whose copy does not, or a member whose report this one
// quotes to others than authorities: those words go to every recipient beside
// the copy, and no projection holds them back. An issuer is no victim.
func (w world) namedInWords(p *pb.Plan, source string, quoted []string) []rpc.Violation {
	text := p.GetHandling().GetRestrictions().GetText()
	if text == "" {
		return nil
	}
	own, others := w.namesOf(source), []string(nil)
	for _, id := range quoted {
		if m := w.dir.members[id]; id != source && !w.policy.issuers[m.GetRole()] {
			others = append(others, w.namesOf(id)...)
		}
	}
	for _, c := range p.GetCopies() {
		var names []string
		if !c.GetNamed() {
			names = append(names, own...)
		}
		if w.flowTo(w.dir.members[c.GetMember()]) != pb.Flow_FLOW_AUTHORITY {
			names = append(names, others...)
		}
		if _, found := anonymizer.FindText(text, names); found {
			return []rpc.Violation{violation("restrictions.text", "NAME_REMAINS",
				fmt.Sprintf("取扱いの文言に組織や人の名前があり、それを示してはならない %s にも届きます。自組織の文言なら書き直し、引用元の文言なら引用元に書き直しを依頼してください。", c.GetName()),
				fmt.Sprintf("The words of the restrictions name an organisation or a person, and would reach %s, who must not learn that. Reword your own; where they come from a quoted report, ask its source to reword them.", c.GetMember()))}
		}
	}
	return nil
}
