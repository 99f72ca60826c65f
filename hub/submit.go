package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/ca"
	"minato.example/internal/check"
	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// SubmitReport checks a report, decides who gets it, and appends report and
// plan in one record. It answers when that record is durable; after a power
// cut everything answered is still there. Nothing is decided afterwards.
func (h *Hub) SubmitReport(ctx context.Context, req *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	s, err := h.open(req, from)
	if err != nil {
		return nil, err
	}
	unlock, err := h.locks.lock(ctx, "request/"+from.id.member+"/"+req.GetRequestId(), "report/"+s.outline.GetReportId(), "case/"+s.outline.GetCaseId())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if first, err := h.earlier(ctx, s, from, req.GetRequestId()); first != nil || err != nil {
		return h.answer(ctx, s.lane, first, err)
	}
	if err := h.continues(s, from); err != nil {
		return nil, err
	}
	w := h.world()
	if _, ok := w.dir.signingKey(from.id); !ok {
		return nil, notEnrolled() // revoked since the call began
	}
	release, err := s.lane.parts.claim(from.id.member, s.parts())
	if err != nil {
		return nil, err
	}
	a, err := h.accept(ctx, s, from, req.GetRequestId(), w)
	if err != nil {
		release()
		return nil, err
	}
	position, err := h.append(ctx, s.lane, a)
	var exists *journal.ExistsError
	if errors.As(err, &exists) {
		// An append whose answer was lost, or another hub process.
		release()
		if err := h.learn(ctx, s.lane, s.outline.GetReportId()); err != nil {
			return nil, err
		}
		first, err := h.earlier(ctx, s, from, req.GetRequestId())
		return h.answer(ctx, s.lane, first, err)
	}
	switch {
	case errors.Is(err, journal.ErrUnknown):
		// The record may be there all the same: its parts stay claimed, and
		// the sender's retry finds it or appends it.
		return nil, unavailable("append to journal", err)
	case errors.Is(err, journal.ErrTooLarge):
		release()
		return nil, refusal([]rpc.Violation{violation("report", "REPORT_TOO_LARGE",
			"報告と配布先を合わせると大きすぎます。本文を短くするか、長い内容を --attach で添えてください。",
			"The report and its list of recipients are too large together. Shorten it, or attach long content (--attach).")})
	case err != nil:
		release()
		return nil, unavailable("append to journal", err)
	}
	s.lane.index.add(position, a)
	return h.answer(ctx, s.lane, a, nil)
}

// accept decides who gets which copy and is the record to be: everything that
// SubmitReport promises and that delivery will carry out.
func (h *Hub) accept(ctx context.Context, s *submission, from *sender, request string, w world) (*pb.ReportAccepted, error) {
	parents, quoted, err := h.parents(ctx, s.outline, from)
	if err != nil {
		return nil, err
	}
	told, bad := h.relabelled(s.lane, s.outline, from)
	decided, more := plan(s.outline, from.id.member, parents, w)
	if bad = append(bad, more...); len(bad) > 0 {
		return nil, refusal(bad)
	}
	if bad := w.namedInWords(decided, from.id.member, quoted); len(bad) > 0 {
		return nil, refusal(bad)
	}
	var out composed
	if s.sealed != nil {
		if err := checkSeal(s.sealed, decided, w); err != nil {
			return nil, err
		}
		out, err = h.composeSealed(s.lane, decided, s.digest[:], s.sealed)
	} else {
		out, bad, err = h.compose(s.lane, decided, content{
			report: s.report, digest: s.digest[:], names: w.namesOf(from.id.member), bundle: h.bundleOf(ctx, s.lane, from.id.member, s.report),
		})
	}
	switch {
	case err != nil:
		return nil, err
	case len(bad) > 0:
		return nil, refusal(bad)
	}
	if err := h.keep(ctx, s.lane, from.id.member, out.made); err != nil {
		return nil, err
	}
	return &pb.ReportAccepted{
		Lane: s.lane.kind, ReportId: s.outline.GetReportId(), CaseId: s.outline.GetCaseId(), Sequence: s.outline.GetSequence(),
		Source: from.id.member, SourceName: from.name, SourceNode: from.id.number, RequestId: request,
		SourceKey: from.key, PayloadDigest: s.digest[:], Envelope: s.envelope, Parts: append(s.parts(), out.parts()...), Plan: decided,
		AcceptTime: timestamppb.New(w.now), Projections: out.projections, Sealed: s.sealed != nil, Outline: s.outline,
		RelabelledHolders: told,
	}, nil
}

// parents is the handling of the reports that one derives from, and of those
// from which the report derives whose label it changes: a label is not made
// looser in two steps. quoted is the members that reported them. One that the
// source may not see is refused as one that never was.
func (h *Hub) parents(ctx context.Context, o *pb.Outline, from *sender) (all []*pb.Handling, quoted []string, err error) {
	take := func(l *lane, id string, a *pb.ReportAccepted) error {
		e, _ := l.index.report(id)
		handling, err := h.inForce(ctx, l, e, a) // its source may have relabelled it
		all, quoted = append(all, handling), append(quoted, a.GetSource())
		return err
	}
	for i, id := range o.GetDerivedFrom() {
		l, a, _, err := h.visible(ctx, o.GetLane(), id, from)
		if r, ok := rpc.RefusalOf(err); ok && r.Code == codes.NotFound {
			return nil, nil, refusal([]rpc.Violation{violation(fmt.Sprintf("derived_from[%d]", i), "DERIVED_FROM_UNKNOWN",
				fmt.Sprintf("引用元 %.8s という報告は見つかりません。ID を確かめてください: minato inbox", id),
				fmt.Sprintf("There is no report %.8s to derive from. Check the id: minato inbox", id))})
		}
		if err != nil {
			return nil, nil, err
		}
		if err := take(l, id, a); err != nil {
			return nil, nil, err
		}
	}
	l, err := h.lane(o.GetLane())
	if err != nil {
		return nil, nil, err
	}
	e, ok := l.index.report(o.GetRelabels())
	if !ok || e.source != from.id.member {
		return all, quoted, nil // relabelled refuses it
	}
	a, err := h.read(ctx, l, e.position)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range a.GetOutline().GetDerivedFrom() {
		// Whether it may still be seen does not matter: what was quoted stays quoted.
		e, ok := l.index.report(id)
		if !ok {
			continue
		}
		parent, err := h.read(ctx, l, e.position)
		if err != nil {
			return nil, nil, err
		}
		if err := take(l, id, parent); err != nil {
			return nil, nil, err
		}
	}
	return all, quoted, nil
}

// relabelled is who holds the report whose label this one changes. Only the
// source of a report relabels it (FIRST TLP 2.0: wider sharing needs the
// source's permission), by a report of its own in the same case.
func (h *Hub) relabelled(l *lane, o *pb.Outline, from *sender) (holders []string, bad []rpc.Violation) {
	if o.GetRelabels() == "" {
		return nil, nil
	}
	e, ok := l.index.report(o.GetRelabels())
	if !ok || e.source != from.id.member || e.caseID != o.GetCaseId() {
		return nil, []rpc.Violation{violation("relabels", "RELABELS_UNKNOWN",
			"表示を変える報告が、この事案の自組織の報告に見つかりません。", "The report to relabel is not one of yours in this case.")}
	}
	return l.index.holders(e), nil
}

// submission is an opened envelope.
type submission struct {
	lane     *lane
	outline  *pb.Outline
	report   *pb.Report       // nil when it is sealed
	sealed   *pb.SealedReport // nil when it is not
	envelope *pb.Envelope     // nothing but what was verified
	digest   [sha256.Size]byte
}

// parts is everything that was uploaded for it.
func (s *submission) parts() []*pb.Part {
	if s.sealed == nil {
		return s.report.Parts()
	}
	return sealedParts(s.sealed.GetVariants())
}

func sealedParts(variants []*pb.SealedVariant) (all []*pb.Part) {
	for _, v := range variants {
		all = append(append(all, v.GetContent()), v.GetParts()...)
	}
	return all
}

// open verifies the signature, parses the verified bytes and checks them.
func (h *Hub) open(req *pb.SubmitReportRequest, from *sender) (*submission, error) {
	if !requestID(req.GetRequestId()) {
		return nil, refusal([]rpc.Violation{violation("request_id", "REQUEST_ID_INVALID",
			"request_id は a-z, 0-9, ハイフンで1～64文字です。", "request_id must be 1 to 64 characters of a-z, 0-9 and hyphen.")})
	}
	s, payloadType := &submission{}, req.GetEnvelope().GetPayloadType()
	for _, l := range h.lanes {
		switch payloadType {
		case seal.ReportType(l.kind):
			s.lane, s.report = l, new(pb.Report)
		case seal.SealedReportType(l.kind):
			s.lane, s.sealed = l, new(pb.SealedReport)
		}
	}
	if s.lane == nil {
		return nil, refusal([]rpc.Violation{violation("envelope.payload_type", "PAYLOAD_TYPE_UNKNOWN",
			fmt.Sprintf("payload_type は %s か %s です。", seal.LiveReportType, seal.ExerciseReportType),
			fmt.Sprintf("payload_type must be %s or %s.", seal.LiveReportType, seal.ExerciseReportType))})
	}
	var err error
	if s.envelope, err = seal.Only(req.GetEnvelope(), payloadType, from.key); err != nil {
		return nil, refusal([]rpc.Violation{violation("envelope.signatures", "SIGNATURE_INVALID",
			"署名が登録された鍵と一致しません。このノードの鍵を確かめてください。",
			"The signature does not verify with the registered key of this node.")})
	}
	payload := s.envelope.GetPayload()
	s.digest = sha256.Sum256(payload)
	if int64(len(payload)) > h.limits.Report {
		return nil, refusal([]rpc.Violation{violation("report", "REPORT_TOO_LARGE",
			fmt.Sprintf("報告が %d バイトあり、上限 %d バイトを超えています。長い内容は --stix や --attach で添えてください。", len(payload), h.limits.Report),
			fmt.Sprintf("The report has %d bytes, more than the limit of %d. Send long content with --stix or --attach.", len(payload), h.limits.Report))})
	}
	var bad []rpc.Violation
	if s.sealed != nil {
		err = proto.Unmarshal(payload, s.sealed)
		s.outline = s.sealed.GetOutline()
	} else {
		err = proto.Unmarshal(payload, s.report)
		s.outline = s.report.Outline()
	}
	switch {
	case err != nil:
		bad = append(bad, violation("envelope.payload", "PAYLOAD_MALFORMED",
			"報告を読み取れません (壊れた protobuf)。", "The report cannot be read (malformed protobuf)."))
	case s.sealed != nil:
		bad = checkSealed(s.sealed, s.lane.kind, h.limits)
	default:
		bad = append(check.Report(s.report, s.lane.kind, h.limits), mustBeSealed(s.outline)...)
	}
	if len(bad) > 0 {
		return nil, refusal(bad)
	}
	return s, nil
}

// mustBeSealed refuses in the clear what the hub must not read.
func mustBeSealed(o *pb.Outline) []rpc.Violation {
	if label := check.Label(o.GetTlp()); label.NeedsSeal() {
		return []rpc.Violation{violation("tlp", "LABEL_NEEDS_SEAL",
			fmt.Sprintf("%s の報告は、ハブが読めないように封をして送ります。ノードを更新してください。", label),
			fmt.Sprintf("A report under %s is sealed, so that the hub cannot read it. Update the node.", label))}
	}
	return nil
}

// maxVariants bounds the forms of one sealed report: one for each flow.
const maxVariants = 8

// checkSealed finds what is wrong with a sealed report in itself.
func checkSealed(s *pb.SealedReport, kind pb.Lane, max check.Limits) []rpc.Violation {
	bad := check.Message("", s.ProtoReflect(), false)
	if s.GetOutline() == nil {
		return append(bad, check.Missing("outline"))
	}
	bad = append(bad, check.Outline(s.GetOutline(), kind)...)
	if !check.Label(s.GetOutline().GetTlp()).NeedsSeal() {
		bad = append(bad, violation("tlp", "SEALED_WITHOUT_NEED",
			"封をして送るのは TLP:RED と TLP:AMBER+STRICT だけです。", "Only TLP:RED and TLP:AMBER+STRICT are sealed."))
	}
	if n := len(s.GetVariants()); n == 0 || n > maxVariants {
		bad = append(bad, violation("variants", "VARIANTS_INVALID",
			fmt.Sprintf("封をした内容は1から%d種類までです。", maxVariants), fmt.Sprintf("A sealed report has 1 to %d forms.", maxVariants)))
	}
	if err := seal.CheckSealed(s.GetVariants(), s.GetWraps(), 0); err != nil {
		bad = append(bad, variantsInvalid(err))
	}
	return append(bad, checkCiphertexts(s.GetVariants(), max)...)
}

func variantsInvalid(err error) rpc.Violation {
	return violation("variants", "VARIANTS_INVALID",
		fmt.Sprintf("封をした内容の形が正しくありません (%v)。ノードを更新してください。", err), fmt.Sprintf("The sealed content is not well formed (%v). Update the node.", err))
}

// checkCiphertexts checks the descriptions of what was sealed, of whatever
// class: that is inside.
func checkCiphertexts(variants []*pb.SealedVariant, max check.Limits) (bad []rpc.Violation) {
	for i, p := range sealedParts(variants) {
		described := &pb.Part{Digest: p.GetDigest(), Size: p.GetSize(), Class: pb.DisclosureClass_DISCLOSURE_CLASS_MESSAGE}
		bad = append(bad, check.Part(fmt.Sprintf("variants.parts[%d]", i), described, max)...)
	}
	return append(bad, check.Parts(sealedParts(variants), max)...)
}

// earlier finds the report that was accepted under the same ids: the same
// bytes get the first receipt again, other bytes are refused.
func (h *Hub) earlier(ctx context.Context, s *submission, from *sender, request string) (*pb.ReportAccepted, error) {
	for _, other := range h.lanes {
		_, request := other.index.request(from.id.member, request)
		_, report := other.index.report(s.outline.GetReportId())
		if other != s.lane && (request || report) {
			return nil, idReused() // an id is one report for ever, drill or not
		}
	}
	id, again := s.lane.index.request(from.id.member, request)
	if !again {
		id = s.outline.GetReportId()
	}
	e, found := s.lane.index.report(id)
	if !found {
		return nil, nil
	}
	if e.source != from.id.member || e.digest != s.digest {
		return nil, idReused()
	}
	return h.read(ctx, s.lane, e.position)
}

func idReused() error {
	return rpc.Refuse(codes.AlreadyExists, "ID_REUSED", "report_id",
		"同じ ID で内容の異なる報告が既に受け付けられています。新しい ID で送り直すか、続報 (minato report update) にしてください。",
		"Another report has been accepted under this id. Send it under a new id, or as an update (minato report update).")
}

// learn takes a report that the journal holds into the index.
func (h *Hub) learn(ctx context.Context, l *lane, report string) error {
	r, err := h.journal.Last(ctx, l.reports, report)
	if err != nil {
		return unavailable("look up report", err)
	}
	if err := l.learn(r); err != nil {
		return err
	}
	advance(&l.appended, r.Seq)
	return nil
}

// continues refuses a report that does not fit its case: only the member that
// opened a case reports in it, and numbers go up.
func (h *Hub) continues(s *submission, from *sender) error {
	c, known := s.lane.index.caseOf(s.outline.GetCaseId())
	if !known {
		return nil
	}
	if c.source != from.id.member {
		return refusal([]rpc.Violation{violation("case_id", "CASE_UNKNOWN",
			"この事案番号では報告できません。新しい事案として報告してください。",
			"You cannot report under this case id. Report it as a new case.")})
	}
	if s.outline.GetSequence() <= c.sequence {
		return refusal([]rpc.Violation{violation("sequence", "SEQUENCE_USED",
			fmt.Sprintf("この事案は第%d報まで受け付けています。第%d報として送ってください。", c.sequence, c.sequence+1),
			fmt.Sprintf("Report number %d of this case has been accepted. Send it as number %d.", c.sequence, c.sequence+1))})
	}
	return nil
}

func (h *Hub) append(ctx context.Context, l *lane, a *pb.ReportAccepted) (position uint64, err error) {
	record, err := proto.Marshal(&pb.ReportRecord{Record: &pb.ReportRecord_Accepted{Accepted: a}})
	if err != nil {
		return 0, fmt.Errorf("encode record: %w", err)
	}
	position, err = h.writes.Append(ctx, l.reports, a.GetReportId(), record)
	if err == nil {
		advance(&l.appended, position)
	}
	return position, err
}

// durable waits until everything appended to the lane so far is on disk.
func (h *Hub) durable(ctx context.Context, l *lane) error {
	upTo := l.appended.Load()
	if l.durable.Load() >= upTo {
		return nil
	}
	if err := h.writes.Durable(ctx); err != nil {
		return unavailable("make journal durable", err)
	}
	advance(&l.durable, upTo)
	return nil
}

// answer waits until the accepted report is durable and signs its receipt. The
// receipt follows from the record alone, so a repeat gets the same one.
func (h *Hub) answer(ctx context.Context, l *lane, a *pb.ReportAccepted, err error) (*pb.SubmitReportResponse, error) {
	if err != nil {
		return nil, err
	}
	if err := h.durable(ctx, l); err != nil {
		return nil, err
	}
	receipt, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.SubmitReceipt{
		ReportId: a.GetReportId(), CaseId: a.GetCaseId(), Sequence: a.GetSequence(), Lane: a.GetLane(),
		PayloadDigest: a.GetPayloadDigest(), AcceptTime: a.GetAcceptTime(), Plan: a.GetPlan(), PortId: h.config.Port,
	})
	if err != nil {
		return nil, fmt.Errorf("encode receipt: %w", err)
	}
	h.log.InfoContext(ctx, "report accepted", "report", a.GetReportId(), "lane", l.kind.String(), "copies", len(a.GetPlan().GetCopies()))
	return &pb.SubmitReportResponse{Receipt: seal.Sign(h.key, seal.SubmitReceiptType, receipt)}, nil
}

// PlanReport runs the check and the plan of SubmitReport and stores nothing.
// What must be sealed is planned from its outline alone.
func (h *Hub) PlanReport(ctx context.Context, req *pb.PlanReportRequest) (*pb.PlanReportResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	r, o := req.GetReport(), req.GetOutline()
	var bad []rpc.Violation
	switch {
	case r != nil:
		o = r.Outline()
		bad = append(check.Report(r, r.GetLane(), h.limits), mustBeSealed(o)...)
	case o != nil:
		bad = check.Outline(o, o.GetLane())
	default:
		bad = []rpc.Violation{check.Missing("report")}
	}
	if len(bad) > 0 {
		return nil, refusal(bad)
	}
	l, err := h.lane(o.GetLane())
	if err != nil {
		return nil, err
	}
	parents, quoted, err := h.parents(ctx, o, from)
	if err != nil {
		return nil, err
	}
	w := h.world()
	_, bad = h.relabelled(l, o, from)
	decided, more := plan(o, from.id.member, parents, w)
	if bad = append(bad, more...); len(bad) > 0 {
		return nil, refusal(bad)
	}
	if bad := w.namedInWords(decided, from.id.member, quoted); len(bad) > 0 {
		return nil, refusal(bad)
	}
	if r != nil {
		payload, err := proto.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode report: %w", err)
		}
		digest := sha256.Sum256(payload)
		if b := r.GetAttackTechnical().GetStixBundle(); b != nil {
			// What peers get of it can only be told from the bundle itself.
			release, err := l.parts.claim(from.id.member, []*pb.Part{b})
			if err != nil {
				return nil, err
			}
			defer release()
		}
		_, bad, err := h.compose(l, decided, content{
			report: r, digest: digest[:], names: w.namesOf(from.id.member), bundle: h.bundleOf(ctx, l, from.id.member, r),
		})
		if err != nil {
			return nil, err
		}
		if len(bad) > 0 {
			return nil, refusal(bad)
		}
	}
	return &pb.PlanReportResponse{Plan: decided}, nil
}

// world is what decisions look at now.
func (h *Hub) world() world { return worldAt(h.dir.Load(), time.Now()) }

// sender is who calls: from the certificate, never from the request.
type sender struct {
	id   nodeID
	name string
	key  ed25519.PublicKey
}

func (h *Hub) sender(ctx context.Context) (*sender, error) {
	p, ok := rpc.PeerFrom(ctx)
	if !ok {
		return nil, notEnrolled()
	}
	id := nodeID{p.Member, p.Node}
	dir := h.directory()
	key, ok := dir.signingKey(id)
	if !ok {
		return nil, notEnrolled()
	}
	return &sender{id: id, name: dir.members[id.member].GetName(), key: key}, nil
}

// admit decides whether the holder of a certificate may be here at all. The
// directory is the revocation list.
func (h *Hub) admit(p ca.Peer) error {
	dir := h.directory()
	if dir == nil || p.Port != h.config.Port {
		return notEnrolled()
	}
	if _, ok := dir.signingKey(nodeID{p.Member, p.Node}); !ok {
		return notEnrolled()
	}
	return nil
}

func notEnrolled() *rpc.Refusal {
	return rpc.Refuse(codes.Unauthenticated, "NOT_ENROLLED", "",
		"このノードの参加は認められていないか、取り消されています。ハブの管理者に新しい参加トークンを求めてください。",
		"This node is not enrolled or has been revoked. Ask the hub's administrator for a new token.")
}

// unavailable is an answer to a failure of the hub's own: the sender keeps the
// report and tries again.
func unavailable(what string, err error) error {
	if errors.Is(err, journal.ErrFull) {
		return errors.Join(rpc.Refuse(codes.Unavailable, "HUB_FULL", "",
			"ハブの保存領域がいっぱいです。報告はこの端末に保存され、自動で送り直されます。ハブの管理者に連絡してください。",
			"The hub's store is full. The report stays here and is sent again by itself. Tell the hub's administrator."),
			fmt.Errorf("%s: %w", what, err))
	}
	return errors.Join(rpc.Refuse(codes.Unavailable, "HUB_NOT_READY", "",
		"ハブが報告を保存できません。報告はこの端末に保存され、自動で送り直されます。",
		"The hub cannot store the report now. It stays here and is sent again by itself."),
		fmt.Errorf("%s: %w", what, err))
}

func requestID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
