// Package anonymizer builds what others than the authorities may see of a
// report: a projection, a new report made field by field from a list of what
// may go. It never clones and clears, since protobuf carries fields that it does
// not know through a clone. It is pure: the same report gives the same copy, so
// a preview shows what is sent.
//
// What a copy holds depends on its flow, the kind of way it takes: to peers and
// the ISAC (FLOW_PEER), to an expert body without and with a non-disclosure
// agreement (FLOW_EXPERT, FLOW_EXPERT_NDA), by way of the secretariat without a
// name (FLOW_ANONYMOUS), to the public (FLOW_PUBLIC) and to those who use the
// service (FLOW_STATUS). FLOW_AUTHORITY is no projection: authorities get the
// report as it was signed.
//
// Behind it stands the table 情報共有と被害公表における情報の種類のチェックリスト
// of the guideline (第2版, 別紙): 被害内容・対応情報 is left out of sharing, of
// 中間の情報 「共有に必要なものは専門機関への相談等を踏まえて共有することが望ましい」,
// 攻撃技術情報 is what sharing is for. That is why a report may name its source to
// the authorities and yet reaches peers nameless. The verdicts are data, see
// fields.go.
package anonymizer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/stix"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// Projected is what one flow may see of a report.
type Projected struct {
	// Report is the copy. It shares no memory with the original. For
	// FLOW_AUTHORITY it is the original itself.
	Report *pb.Report
	// Withheld are the fields that the original has and the copy lacks, as in
	// the proto ("summary", "reporter.contacts"), sorted. A message of which
	// nothing is left stands for its fields. A list stands here when the copy
	// lacks some of its entries. It tells what the original holds: it is for the
	// source, not for the recipient, who may see Lacks.
	Withheld []string
	// Generalised are the fields that the copy has in a coarser form, sorted. It
	// is for the source too.
	Generalised []string
	// Bundle is the STIX bundle of the copy, whose digest and size the copy
	// carries in attack_technical.stix_bundle. Nil when there is none or nothing
	// of it may go.
	Bundle []byte
	// Dropped counts the objects of the bundle that the copy lacks.
	Dropped int
}

// ErrBundle is the error of bytes that are not the STIX bundle of the report.
var ErrBundle = errors.New("anonymizer: the bytes are not those of the report's STIX bundle")

// Project builds what a flow may see of a report. bundle holds the bytes of the
// report's STIX bundle, nil when it has none; the copy of a report whose bundle
// is not given has none either.
//
// Projecting twice changes nothing, and the projection of a projection holds
// nothing that one of the two flows withholds.
//
// The error is ErrBundle when the bytes do not have the digest that the report
// says, a *stix.BundleError when they are no STIX bundle, or says that there is
// no such flow.
func Project(r *pb.Report, flow pb.Flow, bundle []byte) (*Projected, error) {
	if flow == pb.Flow_FLOW_AUTHORITY {
		return &Projected{Report: r, Bundle: bundle}, nil
	}
	if !slices.Contains(Flows, flow) {
		return nil, fmt.Errorf("anonymizer: there is no projection for flow %d", flow)
	}
	b := builder{flow: flow, holds: conditions(r)}
	p := &Projected{Report: &pb.Report{}}
	if err := b.bundle(r, bundle, p); err != nil {
		return nil, err
	}
	b.message(r.ProtoReflect(), p.Report.ProtoReflect(), plan)
	if part := p.Report.GetAttackTechnical().GetStixBundle(); part != nil {
		digest := sha256.Sum256(p.Bundle)
		part.Digest, part.Size, part.Class = digest[:], uint64(len(p.Bundle)), pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE
	}
	p.Withheld, p.Generalised = sorted(b.withheld), sorted(b.generalised)
	return p, nil
}

// Lacks says what a copy for a flow lacks or has coarser, whatever the report
// holds: the same for every report of its kind and consents. That is what a
// recipient may be told; Projected.Withheld would tell it which fields the
// report has. copied is the copy; the lists are sorted.
func Lacks(copied *pb.Report, flow pb.Flow) (withheld, generalised []string) {
	if flow == pb.Flow_FLOW_AUTHORITY {
		return nil, nil
	}
	holds := conditions(copied)
	var along func(steps []step)
	along = func(steps []step) {
		for _, s := range steps {
			switch as, goes := s.row[flow].of(holds); {
			case !goes:
				withheld = append(withheld, s.path)
			case as != whole:
				generalised = append(generalised, s.path)
			default:
				along(s.below)
			}
		}
	}
	along(plan)
	return sorted(withheld), sorted(generalised)
}

// builder builds the copy for one flow.
type builder struct {
	flow                  pb.Flow
	holds                 condition
	noBundle, otherBundle bool // the copy has no bundle, one with other bytes
	withheld, generalised []string
}

// bundle makes the bundle of the copy.
func (b *builder) bundle(r *pb.Report, bundle []byte, p *Projected) error {
	b.noBundle = true
	part := r.GetAttackTechnical().GetStixBundle()
	if part == nil && bundle == nil {
		return nil
	}
	if digest := sha256.Sum256(bundle); bundle != nil && !bytes.Equal(digest[:], part.GetDigest()) {
		return ErrBundle
	}
	goes := func(rows map[string]row, name string) bool {
		_, ok := rows[name][b.flow].of(b.holds)
		return ok
	}
	if bundle == nil || !goes(fieldRows, "attack_technical.stix_bundle") {
		return nil
	}
	out, dropped, err := stix.Project(bundle, stix.Projection{
		Label:           label(r),
		Vulnerabilities: goes(fieldRows, "attack_technical.vulnerabilities"),
		FileNames:       goes(bundleRows, "file_names"),
		Victim:          goes(bundleRows, "victim"),
	})
	if err != nil {
		return err
	}
	p.Bundle, p.Dropped = out, dropped
	b.noBundle, b.otherBundle = out == nil, !bytes.Equal(out, bundle)
	return nil
}

// label is a report's label; a number that is none is unlabelled.
func label(r *pb.Report) tlp.Label {
	if l := r.GetTlp(); l >= 0 && l <= pb.TlpLabel_TLP_LABEL_RED {
		return tlp.Label(l)
	}
	return tlp.Unlabelled
}

// message copies the fields of one message that may go. It reports whether the
// copy holds anything.
func (b *builder) message(from, to protoreflect.Message, steps []step) (some bool) {
	for _, s := range steps {
		if !from.Has(s.field) {
			continue
		}
		as, goes := s.row[b.flow].of(b.holds)
		if !goes || (b.noBundle && s.path == "attack_technical.stix_bundle") {
			b.withheld = append(b.withheld, s.path)
			continue
		}
		missing, coarser := len(b.withheld), len(b.generalised)
		set := b.value(from.Get(s.field), to, s, as)
		some = some || set
		switch changed := len(b.withheld) > missing || len(b.generalised) > coarser; {
		case !set:
			b.withheld = append(b.withheld[:missing], s.path)
			b.generalised = b.generalised[:coarser]
		case changed && as == inPart:
			b.withheld = b.withheld[:missing]
			b.generalised = append(b.generalised[:coarser], s.path)
		}
	}
	return some
}

// value copies the value of a field that may go and reports whether anything
// of it has gone.
func (b *builder) value(v protoreflect.Value, to protoreflect.Message, s step, as form) bool {
	if !s.field.IsList() {
		v, ok := b.single(v, to.NewField(s.field), s, as)
		if ok {
			to.Set(s.field, v)
		}
		return ok
	}
	list := to.NewField(s.field).List()
	for i := range v.List().Len() {
		empty := protoreflect.Value{}
		if s.field.Message() != nil {
			empty = list.NewElement()
		}
		if v, ok := b.single(v.List().Get(i), empty, s, as); ok {
			list.Append(v)
		} else {
			b.withheld = append(b.withheld, s.path)
		}
	}
	if list.Len() == 0 {
		return false
	}
	to.Set(s.field, protoreflect.ValueOfList(list))
	return true
}

// single copies one value; empty is the new message for it. An entry of a list
// or a message of which nothing may go is left out, so that not even its
// presence tells of what was withheld.
func (b *builder) single(v, empty protoreflect.Value, s step, as form) (protoreflect.Value, bool) {
	switch s.field.Kind() {
	case protoreflect.MessageKind:
		from := v.Message().Interface()
		if t, ok := from.(*timestamppb.Timestamp); ok {
			cut := &timestamppb.Timestamp{Seconds: t.GetSeconds(), Nanos: t.GetNanos()}
			if as == toTheDay {
				cut = day(cut)
				if cut.GetSeconds() != t.GetSeconds() || cut.GetNanos() != t.GetNanos() {
					b.generalised = append(b.generalised, s.path)
				}
			}
			return protoreflect.ValueOfMessage(cut.ProtoReflect()), true
		}
		if part, ok := from.(*pb.Part); ok && s.path == "attachments" && !b.attached(part) {
			return v, false
		}
		if s.path == "attack_technical.stix_bundle" && b.otherBundle {
			b.generalised = append(b.generalised, s.path)
		}
		some := b.message(v.Message(), empty.Message(), s.below)
		if m, ok := empty.Message().Interface().(*pb.Moment); ok && as == inPart && m.GetTime() != nil && m.GetPrecision() < pb.Precision_PRECISION_DAY {
			m.Precision = pb.Precision_PRECISION_DAY // was not stated
			b.generalised = append(b.generalised, s.path)
		}
		return empty, some
	case protoreflect.EnumKind:
		if s.field.Enum().Values().ByNumber(v.Enum()) == nil {
			return v, false // a value that has no name here has no verdict either
		}
		if as == toTheDay && v.Enum() < pb.Precision_PRECISION_DAY.Number() {
			b.generalised = append(b.generalised, s.path)
			return protoreflect.ValueOfEnum(pb.Precision_PRECISION_DAY.Number()), true
		}
	case protoreflect.StringKind:
		if as == withoutIDs {
			cleaned := clean(v.String())
			if cleaned != v.String() {
				b.generalised = append(b.generalised, s.path)
			}
			return protoreflect.ValueOfString(cleaned), true
		}
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(bytes.Clone(v.Bytes())), true
	}
	return v, true
}

// attached reports whether an attachment may go: its class decides, as a field
// of the class would.
func (b *builder) attached(part *pb.Part) bool {
	holds := b.holds
	if part.GetSanitised() {
		holds |= isSanitised
	}
	class := pb.DisclosureClass_name[int32(part.GetClass())]
	_, goes := partRows[class[min(len(class), len("DISCLOSURE_CLASS_")):]][b.flow].of(holds)
	return goes
}

// japan is ahead of UTC by so many seconds; it has no summer time.
const japan = 9 * 60 * 60

// day is the start of the day in Japan.
func day(t *timestamppb.Timestamp) *timestamppb.Timestamp {
	const length = 24 * 60 * 60
	since := (t.GetSeconds() + japan) % length
	if since < 0 {
		since += length
	}
	return &timestamppb.Timestamp{Seconds: t.GetSeconds() - since}
}

func sorted(paths []string) []string {
	slices.Sort(paths)
	return slices.Compact(paths)
}
