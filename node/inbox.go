package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// WatchInbox sends what has arrived in a lane, oldest first. With follow it
// goes on; with wait and nothing to show it waits for the first arrival.
func (n *Node) WatchInbox(req *pb.WatchInboxRequest, stream pb.NodeService_WatchInboxServer) error {
	ctx := stream.Context()
	deadline := time.NewTimer(req.GetWait().AsDuration())
	defer deadline.Stop()
	var after int64
	for {
		changed := n.arrived.wait()
		rows, err := n.store.list(ctx, laneOr(req.GetLane()), after, maxPage)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := stream.Send(&pb.WatchInboxResponse{Item: r.item}); err != nil {
				return err
			}
			after = r.row
		}
		if len(rows) == maxPage {
			continue
		}
		var timeUp <-chan time.Time
		if !req.GetFollow() {
			if after > 0 || req.GetWait().AsDuration() <= 0 {
				return nil
			}
			timeUp = deadline.C
		}
		select {
		case <-changed:
		case <-timeUp:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// laneOr reads a missing lane as live: nobody reads a drill by accident.
func laneOr(lane pb.Lane) pb.Lane {
	if lane == pb.Lane_LANE_UNSPECIFIED {
		return pb.Lane_LANE_LIVE
	}
	return lane
}

// SearchInbox finds reports of a lane by words or by indicator.
func (n *Node) SearchInbox(ctx context.Context, req *pb.SearchInboxRequest) (*pb.SearchInboxResponse, error) {
	items, next, err := n.store.search(ctx, laneOr(req.GetLane()), req.GetQuery(), int(req.GetPageSize()), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &pb.SearchInboxResponse{Items: items, NextPageToken: next}, nil
}

// ListOutbox lists what was published here, newest first.
func (n *Node) ListOutbox(ctx context.Context, req *pb.ListOutboxRequest) (*pb.ListOutboxResponse, error) {
	items, next, err := n.store.listOutbox(ctx, int(req.GetPageSize()), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &pb.ListOutboxResponse{Items: items, NextPageToken: next}, nil
}

// GetReport reads one report, received or published here. For a published one
// it asks the hub how far the copies have come. A received one that is sealed to
// persons whose keys are not here has no report yet; one that has run out is
// refused.
func (n *Node) GetReport(ctx context.Context, req *pb.GetReportRequest) (*pb.GetReportResponse, error) {
	id, err := n.store.resolve(ctx, req.GetReport())
	if err != nil {
		return nil, err
	}
	resp := &pb.GetReportResponse{}
	if row, err := n.store.outboxRow(ctx, id); err == nil {
		return n.published(ctx, row)
	} else if !errors.Is(err, errNotFound) {
		return nil, err
	}
	lane, err := n.laneOf(ctx, id)
	if err != nil {
		return nil, err
	}
	if resp.Received, err = n.store.item(ctx, lane, id); err != nil {
		return nil, err
	}
	if expired(resp.Received.GetRestrictions(), n.store.now()) {
		return nil, runOut(resp.Received)
	}
	if resp.Report, _, err = n.store.reportOf(ctx, lane, id); err != nil {
		return nil, err
	}
	return resp, nil
}

// runOut refuses a copy that must have been erased by now.
func runOut(item *pb.InboxItem) error {
	end := item.GetRestrictions().GetExpireTime().AsTime().Format(time.RFC3339)
	return rpc.Refuse(codes.FailedPrecondition, "EXPIRED", "report",
		fmt.Sprintf("この報告の有効期限 (%s) は過ぎています。必要なら発信元に問い合わせてください。", end),
		fmt.Sprintf("This report ran out at %s and is shown no more. Ask its source if you need it.", end))
}

func (n *Node) published(ctx context.Context, row outboxRow) (*pb.GetReportResponse, error) {
	resp := &pb.GetReportResponse{Report: new(pb.Report)}
	var err error
	if err := proto.Unmarshal(row.report, resp.Report); err != nil {
		return nil, err
	}
	if resp.Published, err = n.store.outboxItem(ctx, row.reportID); err != nil {
		return nil, err
	}
	if resp.Published.GetState() != pb.OutboxState_OUTBOX_STATE_ACCEPTED {
		return resp, nil
	}
	call, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	copies, err := n.hub.ListReceipts(call, &pb.ListReceiptsRequest{Lane: row.lane, ReportId: row.reportID})
	if err != nil {
		resp.CopiesError = reasonOf(err)
		return resp, nil
	}
	resp.Copies = copies.GetCopies()
	return resp, nil
}

// laneOf is the lane in which a report was received.
func (n *Node) laneOf(ctx context.Context, id string) (pb.Lane, error) {
	var missing error
	for _, lane := range lanes {
		_, err := n.store.item(ctx, lane, id)
		if err == nil {
			return lane, nil
		}
		if !errors.Is(err, errNotFound) {
			return 0, err
		}
		missing = err
	}
	return 0, missing
}

// GetPart reads one part of a report.
func (n *Node) GetPart(req *pb.GetPartRequest, stream pb.NodeService_GetPartServer) error {
	ctx := stream.Context()
	resp, err := n.GetReport(ctx, &pb.GetReportRequest{Report: req.GetReport()})
	if err != nil {
		return err
	}
	named := false
	for _, p := range resp.GetReport().Parts() {
		named = named || string(p.GetDigest()) == string(req.GetDigest())
	}
	if !named {
		return rpc.Refuse(codes.NotFound, "PART_UNKNOWN", "digest",
			"この報告にその添付はありません。", "The report has no such part.")
	}
	in, err := n.store.partReader(ctx, req.GetDigest())
	if err != nil {
		return err
	}
	defer in.Close()
	for buf := make([]byte, chunkSize); ; {
		got, err := io.ReadFull(in, buf)
		if got > 0 {
			if err := stream.Send(&pb.GetPartResponse{Data: buf[:got]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Acknowledge records a person's reaction and sends it to the hub; it is kept
// until the hub has it.
func (n *Node) Acknowledge(ctx context.Context, req *pb.AcknowledgeRequest) (*pb.AcknowledgeResponse, error) {
	if _, known := pb.Reaction_name[int32(req.GetReaction())]; !known || req.GetReaction() == pb.Reaction_REACTION_UNSPECIFIED {
		return nil, rpc.Refuse(codes.InvalidArgument, "REACTION_MISSING", "reaction",
			"--reaction に seen, checking, affected, not_affected, handled のいずれかを指定してください。",
			"Give --reaction one of seen, checking, affected, not_affected, handled.")
	}
	id, err := n.store.resolve(ctx, req.GetReport())
	if err != nil {
		return nil, err
	}
	lane, err := n.laneOf(ctx, id)
	if err != nil {
		return nil, err
	}
	_, d, err := n.store.reportOf(ctx, lane, id)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	env, err := n.signReceipt(&pb.DeliveryReceipt{
		ReportId: id, Lane: lane, PayloadDigest: digestOf(d), Member: n.id.member, Node: n.id.number,
		DeliverySequence: d.GetDeliverySequence(), State: pb.ReceiptState_RECEIPT_STATE_ACKNOWLEDGED,
		Reaction: req.GetReaction(), Person: req.GetPerson(), ReceiptTime: timestamppb.New(now),
	})
	if err != nil {
		return nil, err
	}
	signed, err := proto.Marshal(env)
	if err != nil {
		return nil, err
	}
	queued, err := n.store.react(ctx, lane, id, req.GetReaction(), req.GetPerson(), now, signed)
	if err != nil {
		return nil, err
	}
	n.outgoing.signal()
	recorded, err := n.awaitRecorded(ctx, queued, req.GetWait().AsDuration())
	if err != nil {
		return nil, err
	}
	return &pb.AcknowledgeResponse{Report: id, Recorded: recorded}, nil
}

func (n *Node) awaitRecorded(ctx context.Context, receipt int64, wait time.Duration) (bool, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		changed := n.settled.wait()
		waits, err := n.store.receiptWaits(ctx, receipt)
		if refusal, refused := n.refusedReactions.LoadAndDelete(receipt); refused {
			return false, refusal.(*rpc.Refusal)
		}
		if err != nil || !waits {
			return !waits, err
		}
		select {
		case <-changed:
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, nil
		}
	}
}

// GetStatus says how the node is.
func (n *Node) GetStatus(ctx context.Context, _ *pb.GetStatusRequest) (*pb.GetStatusResponse, error) {
	c, err := n.store.counts(ctx)
	if err != nil {
		return nil, err
	}
	connected, reason := n.state.now()
	resp := &pb.GetStatusResponse{
		PortId: n.config.Port, Member: n.id.member, Node: n.id.number, HubAddress: n.config.Hub,
		Connected: connected, DisconnectReason: reason,
		CertificateExpireTime: timestamppb.New(n.id.cert.Load().Leaf.NotAfter),
		Queued:                c.queued, Refused: c.refused, Received: c.received, Unacknowledged: c.unacknowledged, Exercises: c.exercises,
		KeyFingerprint:     n.keys.current().Public().Fingerprint(),
		SigningFingerprint: seal.Fingerprint(n.id.signing.Public().(ed25519.PublicKey)),
	}
	members, _, err := n.store.directory(ctx)
	if err != nil {
		return nil, err
	}
	resp.MemberName = memberOf(members, n.id.member).GetName()
	alarms, err := n.store.keyAlarms(ctx)
	if err != nil {
		return nil, err
	}
	resp.KeyAlarms = alarmTexts(alarms)
	profile, _, err := n.store.profile(ctx)
	if err != nil {
		return nil, err
	}
	resp.StaleDesks = staleDesks(profile, time.Now())
	book, err := n.openKeybook(ctx)
	if err != nil {
		return nil, err
	}
	resp.Warnings = book.unconfirmed()
	rejected, err := n.store.rejections(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range rejected {
		at := r.at.Format(time.RFC3339)
		resp.Warnings = append(resp.Warnings, fmt.Sprintf("%s に届いた %s を受け付けませんでした (%s)。発信元に電話で確かめてください。 / %s, which came at %s, was not taken (%s). Telephone its source.",
			at, shown(r.reportID), r.reason, shown(r.reportID), at, r.reason))
	}
	return resp, nil
}

// deskLife is how long the contacts of a desk are taken for right after
// somebody has made sure of them.
const deskLife = 180 * 24 * time.Hour

// staleDesks are the desks whose contacts nobody has confirmed for so long.
func staleDesks(p *pb.Profile, now time.Time) (names []string) {
	for _, d := range p.GetDesks() {
		if d.GetVerifyTime() == nil || now.Sub(d.GetVerifyTime().AsTime()) > deskLife {
			names = append(names, d.GetName())
		}
	}
	return names
}
