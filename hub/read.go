package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

func notFound() error {
	return rpc.Refuse(codes.NotFound, "NOT_FOUND", "report_id",
		"その報告は見つかりません。ID を確かめてください: minato inbox",
		"There is no such report. Check the id: minato inbox")
}

func (h *Hub) lane(kind pb.Lane) (*lane, error) {
	l, ok := h.lanes[kind]
	if !ok {
		return nil, refusal([]rpc.Violation{violation("lane", "LANE_MISSING",
			"実 (LANE_LIVE) か訓練 (LANE_EXERCISE) を指定してください。", "Give LANE_LIVE or LANE_EXERCISE.")})
	}
	return l, nil
}

// AcknowledgeReport records a person's reaction, signed by the node.
func (h *Hub) AcknowledgeReport(ctx context.Context, req *pb.AcknowledgeReportRequest) (*pb.AcknowledgeReportResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	r, receipt, err := openReceipt(req.GetReceipt(), from.key, from.id)
	if err != nil || r.GetState() != pb.ReceiptState_RECEIPT_STATE_ACKNOWLEDGED || r.GetReaction() == pb.Reaction_REACTION_UNSPECIFIED {
		return nil, refusal([]rpc.Violation{violation("receipt", "RECEIPT_INVALID",
			"受領の記録が正しくありません (署名または内容)。", "The receipt is not valid (signature or content).")})
	}
	l, _, grants, err := h.visible(ctx, r.GetLane(), r.GetReportId(), from)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(grants, func(g *grant) bool { return bytes.Equal(g.digest(), r.GetPayloadDigest()) }) {
		return nil, notFound()
	}
	if err := h.roomForReaction(ctx, l, r.GetReportId(), from.id); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(req.GetReceipt().GetPayload())
	record := &pb.ReceiptRecord{
		ReportId: r.GetReportId(), Member: from.id.member, Node: from.id.number, State: r.GetState(),
		RecordTime: timestamppb.Now(), Receipt: receipt,
	}
	if err := h.appendReceipt(ctx, l, record, "acknowledged-"+hex.EncodeToString(digest[:8])); err != nil {
		return nil, unavailable("record reaction", err)
	}
	if err := h.writes.Durable(ctx); err != nil {
		return nil, unavailable("make reaction durable", err)
	}
	return &pb.AcknowledgeReportResponse{}, nil
}

// maxReactions bounds the reactions of one node to one report.
const maxReactions = 50

func (h *Hub) roomForReaction(ctx context.Context, l *lane, report string, node nodeID) error {
	n := 0
	err := h.journal.Match(ctx, l.receipts, fmt.Sprintf("%s.%s.%d.*", report, node.member, node.number), func(journal.Record) error {
		n++
		return nil
	})
	if err != nil {
		return unavailable("count reactions", err)
	}
	if n >= maxReactions {
		return rpc.Refuse(codes.ResourceExhausted, "REACTIONS_TOO_MANY", "receipt",
			"この報告への応答が多すぎます。続きは電話などで連絡してください。",
			"There are too many reactions to this report. Use another channel.")
	}
	return nil
}

// ListReceipts tells the source of a report, and nobody else, how far each
// copy has come.
func (h *Hub) ListReceipts(ctx context.Context, req *pb.ListReceiptsRequest) (*pb.ListReceiptsResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	l, a, grants, err := h.visible(ctx, req.GetLane(), req.GetReportId(), from)
	if err != nil {
		return nil, err
	}
	if grants != nil {
		return nil, notFound()
	}
	copies, err := h.copiesOf(ctx, l, a)
	if err != nil {
		return nil, err
	}
	states := map[string]*pb.CopyState{}
	resp := &pb.ListReceiptsResponse{}
	for _, c := range copies {
		if states[c.GetMember()] != nil {
			continue // another person of the same member, later
		}
		states[c.GetMember()] = &pb.CopyState{Copy: c}
		resp.Copies = append(resp.Copies, states[c.GetMember()])
	}
	err = h.journal.Match(ctx, l.receipts, a.GetReportId()+".>", func(r journal.Record) error {
		record := new(pb.ReceiptRecord)
		if err := proto.Unmarshal(r.Data, record); err != nil {
			return fmt.Errorf("receipt %s: %w", r.Key, err)
		}
		if s := states[record.GetMember()]; s != nil {
			tell(s, record)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read receipts: %w", err)
	}
	return resp, nil
}

// copiesOf is every copy of a report: those of its plan and those added later.
func (h *Hub) copiesOf(ctx context.Context, l *lane, a *pb.ReportAccepted) ([]*pb.Copy, error) {
	copies := slices.Clone(a.GetPlan().GetCopies())
	e, _ := l.index.report(a.GetReportId())
	for _, position := range e.extensions {
		_, x, err := h.recordAt(ctx, l, position)
		if err != nil {
			return nil, err
		}
		copies = append(copies, x.GetPlan().GetCopies()...)
	}
	return copies, nil
}

// tell adds one recorded step to the state of a copy: the first time for what
// happens once, the last for reactions.
func tell(s *pb.CopyState, r *pb.ReceiptRecord) {
	receipt := new(pb.DeliveryReceipt)
	_ = proto.Unmarshal(r.GetReceipt().GetPayload(), receipt) // verified when it was recorded
	switch r.GetState() {
	case pb.ReceiptState_RECEIPT_STATE_SENT:
		if s.SendTime == nil {
			s.SendTime = r.GetRecordTime()
		}
	case pb.ReceiptState_RECEIPT_STATE_STORED:
		if s.StoreTime == nil {
			s.StoreTime = r.GetRecordTime()
		}
	case pb.ReceiptState_RECEIPT_STATE_ACKNOWLEDGED:
		s.AcknowledgeTime, s.Reaction, s.Person = r.GetRecordTime(), receipt.GetReaction(), receipt.GetPerson()
	case pb.ReceiptState_RECEIPT_STATE_REJECTED:
		s.Rejection = receipt.GetReason()
	}
}

// ListMembers reads the directory. Invited and revoked members are left out:
// nobody can address them. Of others a member sees what it needs to address
// them; whom they serve and what binds them is theirs.
func (h *Hub) ListMembers(ctx context.Context, req *pb.ListMembersRequest) (*pb.ListMembersResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	dir := h.directory()
	// Left out before the pages are cut: a page's token is a member's id.
	members := slices.DeleteFunc(dir.sorted(), func(m *pb.Member) bool { return m.GetState() != pb.MemberState_MEMBER_STATE_ACTIVE })
	for i, m := range members {
		if m.GetId() != from.id.member {
			members[i] = public(m)
		}
	}
	page, next := pageOf(members, req.GetPageSize(), req.GetPageToken())
	return &pb.ListMembersResponse{Members: page, NextPageToken: next, Revision: dir.revision}, nil
}

// public is what others see of a member. It is built field by field, so that a
// field to come is hidden until it is listed here.
func public(m *pb.Member) *pb.Member {
	return &pb.Member{
		Id: m.GetId(), Name: m.GetName(), Role: m.GetRole(), Communities: m.GetCommunities(), State: m.GetState(),
		Nodes: m.GetNodes(), Profile: m.GetProfile(), Jurisdictions: m.GetJurisdictions(), Keys: m.GetKeys(),
	}
}

// pageOf is the page of members after the token, which is the last id of the
// page before.
func pageOf(all []*pb.Member, size uint32, token string) (page []*pb.Member, next string) {
	if size == 0 || size > 500 {
		size = 500
	}
	bytes := 0 // a page fits into one message
	for _, m := range all {
		if strings.Compare(m.GetId(), token) <= 0 {
			continue
		}
		bytes += proto.Size(m)
		if len(page) == int(size) || (len(page) > 0 && bytes > 2<<20) {
			return page, page[len(page)-1].GetId()
		}
		page = append(page, m)
	}
	return page, ""
}
