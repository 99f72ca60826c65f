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
	unlock, err := h.locks.lock(ctx, "request/"+from.id.member+"/"+req.GetRequestId(), "report/"+s.report.GetReportId(), "case/"+s.report.GetCaseId())
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
	dir := h.directory()
	if _, ok := dir.signingKey(from.id); !ok {
		return nil, notEnrolled() // revoked since the call began
	}
	decided, bad := plan(s.report, from.id.member, dir)
	if len(bad) > 0 {
		return nil, refusal(bad)
	}
	release, err := s.lane.parts.claim(from.id.member, s.report.Parts())
	if err != nil {
		return nil, err
	}
	a := &pb.ReportAccepted{
		Lane: s.lane.kind, ReportId: s.report.GetReportId(), CaseId: s.report.GetCaseId(), Sequence: s.report.GetSequence(),
		Source: from.id.member, SourceName: from.name, SourceNode: from.id.number, RequestId: req.GetRequestId(),
		SourceKey: from.key, PayloadDigest: s.digest[:], Envelope: s.envelope, Parts: s.report.Parts(), Plan: decided,
		AcceptTime: timestamppb.New(time.Now()),
	}
	position, err := h.append(ctx, s.lane, a)
	var exists *journal.ExistsError
	if errors.As(err, &exists) {
		// An append whose answer was lost, or another hub process.
		release()
		if err := h.learn(ctx, s.lane, s.report.GetReportId()); err != nil {
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

// submission is an opened envelope.
type submission struct {
	lane     *lane
	report   *pb.Report
	envelope *pb.Envelope // nothing but what was verified
	digest   [sha256.Size]byte
}

// open verifies the signature, parses the verified bytes and checks them.
func (h *Hub) open(req *pb.SubmitReportRequest, from *sender) (*submission, error) {
	if !requestID(req.GetRequestId()) {
		return nil, refusal([]rpc.Violation{violation("request_id", "REQUEST_ID_INVALID",
			"request_id は a-z, 0-9, ハイフンで1～64文字です。", "request_id must be 1 to 64 characters of a-z, 0-9 and hyphen.")})
	}
	var l *lane
	for _, candidate := range h.lanes {
		if candidate.payloadType == req.GetEnvelope().GetPayloadType() {
			l = candidate
		}
	}
	if l == nil {
		return nil, refusal([]rpc.Violation{violation("envelope.payload_type", "PAYLOAD_TYPE_UNKNOWN",
			fmt.Sprintf("payload_type は %s か %s です。", seal.LiveReportType, seal.ExerciseReportType),
			fmt.Sprintf("payload_type must be %s or %s.", seal.LiveReportType, seal.ExerciseReportType))})
	}
	env, err := seal.Only(req.GetEnvelope(), l.payloadType, from.key)
	if err != nil {
		return nil, refusal([]rpc.Violation{violation("envelope.signatures", "SIGNATURE_INVALID",
			"署名が登録された鍵と一致しません。このノードの鍵を確かめてください。",
			"The signature does not verify with the registered key of this node.")})
	}
	payload := env.GetPayload()
	if int64(len(payload)) > h.limits.Report {
		return nil, refusal([]rpc.Violation{violation("report", "REPORT_TOO_LARGE",
			fmt.Sprintf("報告が %d バイトあり、上限 %d バイトを超えています。長い内容は --stix や --attach で添えてください。", len(payload), h.limits.Report),
			fmt.Sprintf("The report has %d bytes, more than the limit of %d. Send long content with --stix or --attach.", len(payload), h.limits.Report))})
	}
	r := new(pb.Report)
	if err := proto.Unmarshal(payload, r); err != nil {
		return nil, refusal([]rpc.Violation{violation("envelope.payload", "PAYLOAD_MALFORMED",
			"報告を読み取れません (壊れた protobuf)。", "The report cannot be read (malformed protobuf).")})
	}
	if bad := check.Report(r, l.kind, h.limits); len(bad) > 0 {
		return nil, refusal(bad)
	}
	return &submission{lane: l, report: r, envelope: env, digest: sha256.Sum256(payload)}, nil
}

// earlier finds the report that was accepted under the same ids: the same
// bytes get the first receipt again, other bytes are refused.
func (h *Hub) earlier(ctx context.Context, s *submission, from *sender, request string) (*pb.ReportAccepted, error) {
	for _, other := range h.lanes {
		_, request := other.index.request(from.id.member, request)
		_, report := other.index.report(s.report.GetReportId())
		if other != s.lane && (request || report) {
			return nil, idReused() // an id is one report for ever, drill or not
		}
	}
	id, again := s.lane.index.request(from.id.member, request)
	if !again {
		id = s.report.GetReportId()
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
	a, err := accepted(r)
	if err != nil {
		return err
	}
	l.index.add(r.Seq, a)
	advance(&l.appended, r.Seq)
	return nil
}

// continues refuses a report that does not fit its case: only the member that
// opened a case reports in it, and numbers go up.
func (h *Hub) continues(s *submission, from *sender) error {
	c, known := s.lane.index.caseOf(s.report.GetCaseId())
	if !known {
		return nil
	}
	if c.source != from.id.member {
		return refusal([]rpc.Violation{violation("case_id", "CASE_UNKNOWN",
			"この事案番号では報告できません。新しい事案として報告してください。",
			"You cannot report under this case id. Report it as a new case.")})
	}
	if s.report.GetSequence() <= c.sequence {
		return refusal([]rpc.Violation{violation("sequence", "SEQUENCE_USED",
			fmt.Sprintf("この事案は第%d報まで受け付けています。第%d報として送ってください。", c.sequence, c.sequence+1),
			fmt.Sprintf("Report number %d of this case has been accepted. Send it as number %d.", c.sequence, c.sequence+1))})
	}
	return nil
}

func (h *Hub) append(ctx context.Context, l *lane, a *pb.ReportAccepted) (position uint64, err error) {
	record, err := proto.Marshal(a)
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
func (h *Hub) PlanReport(ctx context.Context, req *pb.PlanReportRequest) (*pb.PlanReportResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	r := req.GetReport()
	if r == nil {
		return nil, refusal([]rpc.Violation{check.Missing("report")})
	}
	if bad := check.Report(r, r.GetLane(), h.limits); len(bad) > 0 {
		return nil, refusal(bad)
	}
	decided, bad := plan(r, from.id.member, h.directory())
	if len(bad) > 0 {
		return nil, refusal(bad)
	}
	return &pb.PlanReportResponse{Plan: decided}, nil
}

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
