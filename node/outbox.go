package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// send takes what waits for the hub out of the store, oldest first, for as
// long as ctx lasts. It never gives a report up: a retry carries the same ids,
// so the hub stores it once.
func (n *Node) send(ctx context.Context) error {
	wait := newBackoff(n.retry)
	for ctx.Err() == nil {
		more := n.outgoing.wait()
		sent, err := n.sendNext(ctx, wait)
		if err != nil && ctx.Err() == nil {
			// A full or failing disk: the inbox goes on being shown.
			n.log.ErrorContext(ctx, "outbox cannot be read or written", "err", err)
			pause(ctx, wait.NextBackOff())
			continue
		}
		if sent {
			wait.Reset()
			continue
		}
		most := time.Minute
		if at, queued, err := n.store.nextRetry(ctx); err == nil && queued {
			most = max(time.Until(at), 10*time.Millisecond)
		}
		if c, err := n.store.counts(ctx); err == nil && c.receipts > 0 {
			most = min(most, wait.NextBackOff())
		}
		select {
		case <-ctx.Done():
		case <-more:
		case <-time.After(most):
		}
	}
	return nil
}

// sendNext sends one report or one reaction and says whether the hub has
// answered it for good. An error is the store's.
func (n *Node) sendNext(ctx context.Context, wait *backoff.ExponentialBackOff) (sent bool, err error) {
	row, ok, err := n.store.nextQueued(ctx)
	if err != nil {
		return false, err
	}
	if ok {
		tried := n.submit(ctx, row)
		err := n.settle(ctx, row, tried, wait)
		n.settled.signal()
		_, refused := final(tried)
		return err == nil && (tried == nil || refused), err
	}
	return n.sendReaction(ctx)
}

// hubReached lets what waits for the hub be tried at once.
func (n *Node) hubReached(ctx context.Context) {
	if err := n.store.retryNow(ctx); err != nil && ctx.Err() == nil {
		n.log.WarnContext(ctx, "waiting reports not hurried", "err", err)
	}
	n.outgoing.signal()
}

// seals is how often a report is sealed again at once when the hub's decision
// has changed under it.
const seals = 3

// submit sends a report, sealed where the hub may not read it. When the hub's
// decision is no longer the one that it was sealed for, it is sealed again: the
// hub has stored nothing then.
func (n *Node) submit(ctx context.Context, row outboxRow) error {
	r := new(pb.Report)
	if err := proto.Unmarshal(row.report, r); err != nil {
		return fmt.Errorf("read report from outbox: %w", err)
	}
	for try := 1; ; try++ {
		parts := r.Parts()
		if row.sealed {
			if len(row.envelope) == 0 {
				if err := n.sealQueued(ctx, &row, r); err != nil {
					return err
				}
			}
			s, err := sealedIn(row)
			if err != nil {
				return err
			}
			parts = nil
			for _, v := range s.GetVariants() {
				parts = append(parts, ciphertexts(v)...)
			}
		}
		err := n.submitOnce(ctx, row, parts)
		if !row.sealed || !planChanged(err) {
			return err
		}
		row.envelope, row.contentKeys = nil, nil
		if err := n.store.setSealed(ctx, row.reportID, nil, nil, nil); err != nil {
			return err
		}
		if try == seals {
			return err
		}
	}
}

// submitOnce uploads the parts of a report and submits it.
func (n *Node) submitOnce(ctx context.Context, row outboxRow, parts []*pb.Part) error {
	env := new(pb.Envelope)
	if err := proto.Unmarshal(row.envelope, env); err != nil {
		return fmt.Errorf("read report from outbox: %w", err)
	}
	for _, p := range parts {
		if err := n.uploadPart(ctx, row.lane, p); err != nil {
			return err
		}
	}
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	resp, err := n.hub.SubmitReport(call, &pb.SubmitReportRequest{RequestId: row.requestID, Envelope: env})
	if err != nil {
		return err
	}
	receipt, err := n.openSubmitReceipt(resp.GetReceipt(), row.reportID, env.GetPayload())
	if err != nil {
		return err
	}
	kept, err := proto.Marshal(resp.GetReceipt())
	if err != nil {
		return err
	}
	if err := n.store.markAccepted(ctx, row.reportID, kept, receipt.GetPlan(), receipt.GetAcceptTime().AsTime()); err != nil {
		return err
	}
	n.log.InfoContext(ctx, "report accepted by the hub", "report", row.reportID)
	return nil
}

// openSubmitReceipt verifies that the hub promises this very report.
func (n *Node) openSubmitReceipt(env *pb.Envelope, report string, signed []byte) (*pb.SubmitReceipt, error) {
	payload, err := seal.Verify(env, seal.SubmitReceiptType, n.id.hubKey)
	if err != nil {
		return nil, fmt.Errorf("the hub's receipt: %w", err)
	}
	receipt := new(pb.SubmitReceipt)
	if err := proto.Unmarshal(payload, receipt); err != nil {
		return nil, fmt.Errorf("the hub's receipt: %w", err)
	}
	digest := sha256.Sum256(signed)
	if receipt.GetReportId() != report || !bytes.Equal(receipt.GetPayloadDigest(), digest[:]) {
		return nil, errors.New("the hub's receipt is for another report")
	}
	return receipt, nil
}

// settle records what became of one try: refused for good and set aside with
// the reasons, or to be tried again.
func (n *Node) settle(ctx context.Context, row outboxRow, err error, wait *backoff.ExponentialBackOff) error {
	if err == nil {
		n.state.deny(nil)
		return nil
	}
	if refusal, ok := final(err); ok {
		n.log.WarnContext(ctx, "report refused by the hub", "report", row.reportID, "reason", refusal.Reason)
		info := &pb.RefusalInfo{Code: uint32(refusal.Code), Reason: refusal.Reason}
		for _, v := range refusal.Violations {
			info.Violations = append(info.Violations, &pb.ViolationInfo{Field: v.Field, Reason: v.Reason, Japanese: v.Japanese, English: v.English})
		}
		return n.store.markRefused(ctx, row.reportID, info)
	}
	n.state.deny(err)
	n.log.InfoContext(ctx, "report waits for the hub", "report", row.reportID, "err", err)
	return n.store.markDelayed(ctx, row.reportID, reasonOf(err), time.Now().Add(wait.NextBackOff()))
}

// final is a refusal that a retry cannot change. A part that the hub no longer
// has is uploaded by the next try, a decision that has changed is sealed for; a certificate that the hub does not accept
// may be renewed, or the clock mended, so the report waits.
func final(err error) (*rpc.Refusal, bool) {
	refusal, ok := rpc.RefusalOf(err)
	if !ok || refusal.Reason == "PART_MISSING" || refusal.Reason == "PLAN_CHANGED" {
		return nil, false
	}
	switch refusal.Code {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.AlreadyExists, codes.PermissionDenied:
		return refusal, true
	case codes.ResourceExhausted:
		return refusal, refusal.Reason == "REACTIONS_TOO_MANY" || refusal.Reason == "MESSAGE_TOO_LARGE"
	}
	return nil, false
}

// reasonOf is why the hub was not reached, for the status line.
func reasonOf(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// uploadPart sends one part; the hub knows at once when it has it already.
func (n *Node) uploadPart(ctx context.Context, lane pb.Lane, p *pb.Part) error {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	in, err := n.store.partReader(ctx, p.GetDigest())
	if err != nil {
		return err
	}
	defer in.Close()
	stream, err := n.hub.UploadPart(ctx)
	if err != nil {
		return err
	}
	m := &pb.UploadPartRequest{Lane: lane, Part: &pb.Part{Digest: p.GetDigest(), Size: p.GetSize()}}
	buf := make([]byte, chunkSize)
	for {
		got, err := io.ReadFull(in, buf)
		if got > 0 {
			m.Data = buf[:got]
			if stream.Send(m) != nil {
				break // CloseAndRecv has the reason
			}
			m = &pb.UploadPartRequest{}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// sendReaction sends the oldest reaction of a person. What the hub refuses is
// dropped from the queue: the reaction itself stays in the inbox.
func (n *Node) sendReaction(ctx context.Context) (sent bool, err error) {
	out, ok, err := n.store.nextReceipt(ctx)
	if err != nil || !ok {
		return false, err
	}
	env := new(pb.Envelope)
	if err := proto.Unmarshal(out.envelope, env); err != nil {
		return false, err
	}
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	if _, err := n.hub.AcknowledgeReport(call, &pb.AcknowledgeReportRequest{Receipt: env}); err != nil {
		if refusal, ok := final(err); !ok && status.Code(err) != codes.NotFound {
			n.log.InfoContext(ctx, "reaction waits for the hub", "report", out.reportID, "err", err)
			return false, nil
		} else if ok {
			n.log.WarnContext(ctx, "reaction refused by the hub", "report", out.reportID, "reason", refusal.Reason)
		}
		if refusal, ok := rpc.RefusalOf(err); ok {
			n.refusedReactions.Store(out.id, refusal)
		}
	}
	if err := n.store.markReceiptSent(ctx, out.id); err != nil {
		return false, err
	}
	n.settled.signal()
	return true, nil
}
