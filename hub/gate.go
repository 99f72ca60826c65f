package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"minato.example/internal/journal"
	pb "minato.example/proto/minato/v1"
)

// This is the gate: the one file that turns a stored decision into something
// that leaves the hub. Sessions, streams, reads and downloads get what they
// send from a grant, and a grant comes from a record of the journal alone.

// grant is what one member may have of one report.
type grant struct {
	position uint64 // of the record that decided it
	accepted *pb.ReportAccepted
	extended *pb.PlanExtended // nil when the plan of the report gave it
	copy     *pb.Copy         // nil when the member is only told of a new label
	relabels bool             // the member has the report whose label this one changes
}

// grantOf is what the record at a position gives a member; nil when it gives
// nothing. x is nil for the record of the report itself.
func grantOf(position uint64, a *pb.ReportAccepted, x *pb.PlanExtended, member string) *grant {
	g := &grant{position: position, accepted: a, extended: x, copy: copyFor(a.GetPlan(), member)}
	if x != nil {
		g.copy = copyFor(x.GetPlan(), member)
	} else {
		g.relabels = slices.Contains(a.GetRelabelledHolders(), member)
	}
	if g.copy == nil && !g.relabels {
		return nil
	}
	return g
}

// copyFor is what a plan gives a member; nil when it gives nothing.
func copyFor(p *pb.Plan, member string) *pb.Copy {
	for _, c := range p.GetCopies() {
		if c.GetMember() == member {
			return c
		}
	}
	return nil
}

// expired reports whether the restrictions of the report forbid that anything
// of it leaves any more.
func (g *grant) expired(now time.Time) bool {
	e := g.handling().GetRestrictions().GetExpireTime()
	return e != nil && !now.Before(e.AsTime())
}

// handling is how the holder has to treat the report, as it was decided with
// the copy.
func (g *grant) handling() *pb.Handling {
	if g.extended != nil {
		return g.extended.GetPlan().GetHandling()
	}
	return g.accepted.GetPlan().GetHandling()
}

// report is the id of the report that the grant is about.
func (g *grant) report() string {
	if g.copy == nil {
		return g.accepted.GetOutline().GetRelabels()
	}
	return g.accepted.GetReportId()
}

// digest is the SHA-256 of the payload that the member gets: of no bytes when
// it is only told of a new label.
func (g *grant) digest() []byte {
	if g.copy == nil {
		none := sha256.Sum256(nil)
		return none[:]
	}
	return g.copy.GetPayloadDigest()
}

// envelope is what the member gets: the report as it was signed, or the
// projection that the decision made for it.
func (g *grant) envelope() (*pb.Envelope, error) {
	if bytes.Equal(g.digest(), g.accepted.GetPayloadDigest()) {
		return g.accepted.GetEnvelope(), nil
	}
	for _, p := range slices.Concat(g.accepted.GetProjections(), g.extended.GetProjections()) {
		if bytes.Equal(g.digest(), p.GetPayloadDigest()) {
			return p.GetEnvelope(), nil
		}
	}
	return nil, fmt.Errorf("report %s: the record holds no content for the copy", g.report())
}

// delivery is what goes to a node of the member. A copy that does not name the
// source carries nothing that would: no name, no key, no signature of it.
func (g *grant) delivery(sequence uint64) (*pb.Delivery, error) {
	a := g.accepted
	d := &pb.Delivery{DeliverySequence: sequence, Lane: a.GetLane(), ReportId: g.report(), AcceptTime: a.GetAcceptTime(), Handling: g.handling()}
	if g.extended == nil && g.relabels {
		d.Relabelling = &pb.Relabelling{ReportId: a.GetOutline().GetRelabels(), Tlp: g.handling().GetTlp()}
	}
	if g.copy == nil {
		d.Handling = nil // that of a report which this member does not get
		return d, nil
	}
	d.Copy = g.told()
	if g.copy.GetNamed() {
		d.Source, d.SourceName, d.SourceKey = a.GetSource(), a.GetSourceName(), a.GetSourceKey()
		if a.GetSealed() {
			d.Instruction = g.extended.GetInstruction() // late wraps, signed by the source
		}
	}
	var err error
	d.Envelope, err = g.envelope()
	return d, err
}

// told is the copy as its recipient sees it: what was left out or coarsened
// tells of the report itself and is for its source alone.
func (g *grant) told() *pb.Copy {
	c := proto.CloneOf(g.copy)
	c.Withheld, c.Generalised = nil, nil
	return c
}

// part reports whether the member may read a part of the report.
func (g *grant) part(digest []byte) bool {
	return slices.ContainsFunc(g.copy.GetParts(), func(d []byte) bool { return bytes.Equal(d, digest) })
}

// visible is a report that the caller reported, with no grant, or that plans
// give to the caller, with what each gives, oldest first. Everything else is not
// found, as what never was: that is decided in memory, so that the time tells
// no difference either.
func (h *Hub) visible(ctx context.Context, kind pb.Lane, id string, from *sender) (*lane, *pb.ReportAccepted, []*grant, error) {
	l, err := h.lane(kind)
	if err != nil {
		return nil, nil, nil, err
	}
	e, ok := l.index.report(id)
	if !ok || (e.source != from.id.member && !l.index.holds(e, from.id.member)) {
		return nil, nil, nil, notFound()
	}
	a, err := h.read(ctx, l, e.position)
	if err != nil {
		return nil, nil, nil, err
	}
	if a.GetSource() == from.id.member {
		return l, a, nil, nil
	}
	grants, err := h.grantsTo(ctx, l, e, a, from.id.member)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(grants) == 0 || grants[0].expired(time.Now()) {
		return nil, nil, nil, notFound()
	}
	return l, a, grants, nil
}

// grantsTo is every copy that a member has of a report, oldest first: a second
// one where a further person of it was named later.
func (h *Hub) grantsTo(ctx context.Context, l *lane, e entry, a *pb.ReportAccepted, member string) (all []*grant, err error) {
	if copyFor(a.GetPlan(), member) != nil {
		all = append(all, grantOf(e.position, a, nil, member))
	}
	for _, position := range e.extensions {
		_, x, err := h.recordAt(ctx, l, position)
		if err != nil {
			return nil, err
		}
		if g := grantOf(position, a, x, member); g != nil {
			all = append(all, g)
		}
	}
	return all, nil
}

// inForce is the handling of a report now: the label, community and regime of
// the last report that relabels it, the prohibitions of both. What that report
// says in words stays with its own recipients.
func (h *Hub) inForce(ctx context.Context, l *lane, e entry, a *pb.ReportAccepted) (*pb.Handling, error) {
	handling := a.GetPlan().GetHandling()
	if e.relabelled == 0 {
		return handling, nil
	}
	by, err := h.read(ctx, l, e.relabelled)
	if err != nil {
		return nil, err
	}
	now := proto.CloneOf(by.GetPlan().GetHandling())
	if now.Restrictions != nil {
		now.Restrictions.Text = ""
	}
	now.Restrictions = strictest(handling.GetRestrictions(), now.GetRestrictions())
	now.OnwardPermissions = handling.GetOnwardPermissions()
	return now, nil
}

// givenBy is to whom a member has passed a report on.
func (h *Hub) givenBy(ctx context.Context, l *lane, e entry, member string) (to []string, err error) {
	for _, position := range e.extensions {
		_, x, err := h.recordAt(ctx, l, position)
		if err != nil {
			return nil, err
		}
		if x.GetBy() == member {
			for _, c := range x.GetPlan().GetCopies() {
				to = append(to, c.GetMember())
			}
		}
	}
	return to, nil
}

// read reads one accepted report from the journal.
func (h *Hub) read(ctx context.Context, l *lane, position uint64) (*pb.ReportAccepted, error) {
	a, _, err := h.recordAt(ctx, l, position)
	if err == nil && a == nil {
		err = fmt.Errorf("no report at %d", position)
	}
	return a, err
}

func (h *Hub) recordAt(ctx context.Context, l *lane, position uint64) (*pb.ReportAccepted, *pb.PlanExtended, error) {
	r, err := h.journal.Get(ctx, l.reports, position)
	if err != nil {
		return nil, nil, fmt.Errorf("read report at %d: %w", position, err)
	}
	return decoded(r)
}

// granting reads what one record gives whom: grants(member) is nil for those
// who get nothing.
func (h *Hub) granting(ctx context.Context, l *lane, r journal.Record) (grants func(member string) *grant, err error) {
	a, x, err := decoded(r)
	if err != nil {
		return nil, err
	}
	if x != nil {
		if len(x.GetPlan().GetCopies()) == 0 {
			return func(string) *grant { return nil }, nil
		}
		e, ok := l.index.report(x.GetReportId())
		if !ok {
			return nil, fmt.Errorf("journal position %d extends a report that is not there", r.Seq)
		}
		if a, err = h.read(ctx, l, e.position); err != nil {
			return nil, err
		}
	}
	return func(member string) *grant { return grantOf(r.Seq, a, x, member) }, nil
}
