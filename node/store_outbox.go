package node

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
)

// outboxRow is one published report with everything that sending it needs.
type outboxRow struct {
	reportID    string
	caseID      string
	sequence    uint32
	lane        pb.Lane
	label       string // as FIRST writes it
	title       string
	requestID   string // the same for every try
	publishTime time.Time
	report      []byte   // the report; the signed payload unless it is sealed
	envelope    []byte   // the signed envelope, marshalled; empty until a sealed report is sealed
	sealed      bool     // the hub may not read it
	parts       [][]byte // digests; addPart has stored them

	// Set when read.
	receipt []byte // the hub's signed receipt, once accepted
	tries   int    // given by markDelayed
	// The content keys of a sealed report, in the order of its variants.
	contentKeys [][]byte
}

// publish puts a report into the outbox. A report id, request id or number
// within the case that is there already is refused (errDuplicate).
func (s *store) publish(ctx context.Context, r outboxRow) error {
	if _, err := tablesOf(r.lane); err != nil {
		return err
	}
	if !isID(r.reportID, 32) {
		return invalidID(r.reportID)
	}
	item, err := proto.Marshal(&pb.OutboxItem{
		Report: r.reportID, Case: r.caseID, Seq: r.sequence, Tlp: r.label, Title: r.title, Lane: r.lane,
		PublishTime: timestamppb.New(r.publishTime),
	})
	if err != nil {
		return fmt.Errorf("encode the outbox item: %w", err)
	}
	return s.update(ctx, func(tx *sql.Tx) error {
		done, err := tx.Exec(`INSERT INTO outbox (report_id, case_id, sequence, state, request_id, item, report, envelope, sealed)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			r.reportID, r.caseID, r.sequence, pb.OutboxState_OUTBOX_STATE_QUEUED, r.requestID, withSum(item), withSum(r.report), withSum(r.envelope), r.sealed)
		if err != nil {
			return err
		}
		if added, err := done.RowsAffected(); err != nil {
			return err
		} else if added == 0 {
			return duplicate(r.reportID)
		}
		row, err := done.LastInsertId()
		if err != nil {
			return err
		}
		return useParts(tx, "outbox_parts", row, r.parts)
	})
}

// nextSequence is the number of the next own report of a case: 1 when there is
// none yet. Two callers may get the same; publish refuses the second.
func (s *store) nextSequence(ctx context.Context, caseID string) (uint32, error) {
	var next uint32
	err := s.read.QueryRowContext(ctx, `SELECT coalesce(max(sequence), 0) + 1 FROM outbox WHERE case_id = ?`, caseID).Scan(&next)
	return next, s.failed(err)
}

// nextQueued is the oldest queued report whose retry time has come; ok is
// false when there is none. A report never overtakes an earlier one of its
// case.
func (s *store) nextQueued(ctx context.Context) (r outboxRow, ok bool, err error) {
	return s.outboxRowWhere(ctx, `state = ?1 AND retry_time <= ?2 AND NOT EXISTS (
		SELECT 1 FROM outbox e WHERE e.state = ?1 AND e.case_id = outbox.case_id AND e.row < outbox.row)
		ORDER BY row LIMIT 1`, pb.OutboxState_OUTBOX_STATE_QUEUED, micros(s.now()))
}

// nextRetry is the earliest time at which nextQueued gives something; ok is
// false when nothing is queued.
func (s *store) nextRetry(ctx context.Context) (at time.Time, ok bool, err error) {
	var first sql.NullInt64
	err = s.read.QueryRowContext(ctx, `SELECT min(retry_time) FROM outbox WHERE state = ?1 AND NOT EXISTS (
		SELECT 1 FROM outbox e WHERE e.state = ?1 AND e.case_id = outbox.case_id AND e.row < outbox.row)`,
		pb.OutboxState_OUTBOX_STATE_QUEUED).Scan(&first)
	return time.UnixMicro(first.Int64), first.Valid, s.failed(err)
}

// outboxRow reads a published report by its full id, e.g. to send its parts or
// to follow it up.
func (s *store) outboxRow(ctx context.Context, reportID string) (outboxRow, error) {
	r, ok, err := s.outboxRowWhere(ctx, `report_id = ?`, reportID)
	if err == nil && !ok {
		err = notFound(reportID)
	}
	return r, err
}

func (s *store) outboxRowWhere(ctx context.Context, where string, args ...any) (outboxRow, bool, error) {
	var row int64
	var stored, report, envelope, receipt, keys []byte
	r := outboxRow{}
	err := s.read.QueryRowContext(ctx, `SELECT row, request_id, tries, item, report, envelope, receipt, sealed, content_keys FROM outbox WHERE `+where, args...).
		Scan(&row, &r.requestID, &r.tries, &stored, &report, &envelope, &receipt, &r.sealed, &keys)
	if errors.Is(err, sql.ErrNoRows) {
		return outboxRow{}, false, nil
	}
	if err != nil {
		return outboxRow{}, false, s.failed(err)
	}
	item := new(pb.OutboxItem)
	if err := s.decode(stored, item); err != nil {
		return outboxRow{}, false, err
	}
	r.reportID, r.caseID, r.sequence, r.lane = item.GetReport(), item.GetCase(), item.GetSeq(), item.GetLane()
	r.label, r.title, r.publishTime = item.GetTlp(), item.GetTitle(), item.GetPublishTime().AsTime()
	for _, f := range []struct{ to, from *[]byte }{{&r.report, &report}, {&r.envelope, &envelope}, {&r.receipt, &receipt}, {&keys, &keys}} {
		if *f.from == nil {
			continue
		}
		if *f.to, err = s.verified(*f.from); err != nil {
			return outboxRow{}, false, err
		}
	}
	for at := range slices.Chunk(keys, 32) {
		r.contentKeys = append(r.contentKeys, at)
	}
	digests, err := s.read.QueryContext(ctx, `SELECT digest FROM outbox_parts WHERE row = ?`, row)
	if err != nil {
		return outboxRow{}, false, s.failed(err)
	}
	defer digests.Close()
	for digests.Next() {
		var digest []byte
		if err := digests.Scan(&digest); err != nil {
			return outboxRow{}, false, s.failed(err)
		}
		r.parts = append(r.parts, digest)
	}
	return r, true, s.failed(digests.Err())
}

// setSealed keeps what a queued report was sealed to: the envelope that every
// try sends from now on, its content keys, and its parts. An envelope that is
// empty takes the seal away, so that the next try makes another.
func (s *store) setSealed(ctx context.Context, reportID string, envelope []byte, contentKeys [][]byte, parts [][]byte) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		done, err := tx.Exec(`UPDATE outbox SET envelope = ?, content_keys = ? WHERE report_id = ? AND state = ? AND sealed = 1`,
			withSum(envelope), withSum(slices.Concat(contentKeys...)), reportID, pb.OutboxState_OUTBOX_STATE_QUEUED)
		if err != nil {
			return err
		}
		if changed, err := done.RowsAffected(); err != nil {
			return err
		} else if changed == 0 {
			return notFound(reportID)
		}
		var row int64
		if err := tx.QueryRow(`SELECT row FROM outbox WHERE report_id = ?`, reportID).Scan(&row); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM outbox_sealed WHERE row = ?`, row); err != nil {
			return err
		}
		return useParts(tx, "outbox_sealed", row, parts)
	})
}

// markAccepted keeps the hub's receipt and plan. Doing it again changes
// nothing.
func (s *store) markAccepted(ctx context.Context, reportID string, receipt []byte, plan *pb.Plan, acceptTime time.Time) error {
	encoded, err := proto.Marshal(plan)
	if err != nil {
		return fmt.Errorf("encode the plan: %w", err)
	}
	return s.mark(ctx, reportID, pb.OutboxState_OUTBOX_STATE_ACCEPTED,
		`plan = ?, receipt = ?, accept_time = ?`, withSum(encoded), withSum(receipt), micros(acceptTime))
}

// markRefused sets a report aside with the hub's reasons.
func (s *store) markRefused(ctx context.Context, reportID string, refusal *pb.RefusalInfo) error {
	encoded, err := proto.Marshal(refusal)
	if err != nil {
		return fmt.Errorf("encode the refusal: %w", err)
	}
	return s.mark(ctx, reportID, pb.OutboxState_OUTBOX_STATE_REFUSED, `refusal = ?`, withSum(encoded))
}

// markDelayed keeps why the hub was not reached and when to try again.
func (s *store) markDelayed(ctx context.Context, reportID, reason string, retry time.Time) error {
	return s.mark(ctx, reportID, pb.OutboxState_OUTBOX_STATE_QUEUED,
		`delay_reason = ?, retry_time = ?, tries = tries + 1`, reason, micros(retry))
}

// mark moves a queued report on. What has left the queue stays as it is.
func (s *store) mark(ctx context.Context, reportID string, state pb.OutboxState, set string, args ...any) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		var have pb.OutboxState
		err := tx.QueryRow(`SELECT state FROM outbox WHERE report_id = ?`, reportID).Scan(&have)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(reportID)
		}
		if err != nil {
			return err
		}
		if have != pb.OutboxState_OUTBOX_STATE_QUEUED {
			switch {
			case have == state:
				return nil
			case have == pb.OutboxState_OUTBOX_STATE_ACCEPTED:
				return wrongState(reportID, "has been accepted by the hub already", "すでにハブに受領されています")
			default:
				return wrongState(reportID, "has been refused by the hub already", "すでにハブに拒否されています")
			}
		}
		if _, err = tx.Exec(`UPDATE outbox SET state = ?, `+set+` WHERE report_id = ?`, append(append([]any{state}, args...), reportID)...); err != nil {
			return err
		}
		if state != pb.OutboxState_OUTBOX_STATE_QUEUED { // the hub has the ciphertexts, or will not have them
			_, err = tx.Exec(`DELETE FROM outbox_sealed WHERE row = (SELECT row FROM outbox WHERE report_id = ?)`, reportID)
		}
		return err
	})
}

// retryNow lets every queued report be tried at once, e.g. when the hub is
// reached again.
func (s *store) retryNow(ctx context.Context) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE outbox SET retry_time = 0 WHERE state = ? AND retry_time > 0`, pb.OutboxState_OUTBOX_STATE_QUEUED)
		return err
	})
}

// outboxItem reads a published report in short, by its id or the start of it.
func (s *store) outboxItem(ctx context.Context, idOrPrefix string) (*pb.OutboxItem, error) {
	id, err := s.complete(ctx, `outbox`, idOrPrefix)
	if err != nil {
		return nil, err
	}
	items, _, err := s.outboxItems(ctx, `report_id = ?`, id)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, notFound(idOrPrefix)
	}
	return items[0], nil
}

// listOutbox lists what was published here, newest first. limit 0 means 100,
// at most 500; next is empty on the last page.
func (s *store) listOutbox(ctx context.Context, limit int, token string) (items []*pb.OutboxItem, next string, err error) {
	below, err := before(token)
	if err != nil {
		return nil, "", err
	}
	limit = pageSize(limit)
	items, rows, err := s.outboxItems(ctx, `row < ? ORDER BY row DESC LIMIT ?`, below, limit+1)
	if err == nil && len(items) > limit {
		items, next = items[:limit], strconv.FormatInt(rows[limit-1], 10)
	}
	return items, next, err
}

func (s *store) outboxItems(ctx context.Context, where string, args ...any) ([]*pb.OutboxItem, []int64, error) {
	found, err := s.read.QueryContext(ctx, `SELECT row, state, accept_time, delay_reason, item, plan, refusal FROM outbox WHERE `+where, args...)
	if err != nil {
		return nil, nil, s.failed(err)
	}
	defer found.Close()
	var items []*pb.OutboxItem
	var rows []int64
	for found.Next() {
		var row int64
		var accept sql.NullInt64
		var state pb.OutboxState
		var delay string
		var stored, plan, refusal []byte
		if err := found.Scan(&row, &state, &accept, &delay, &stored, &plan, &refusal); err != nil {
			return nil, nil, s.failed(err)
		}
		item := new(pb.OutboxItem)
		if err := s.decode(stored, item); err != nil {
			return nil, nil, err
		}
		item.State, item.DelayReason = state, delay
		if accept.Valid {
			item.AcceptTime = timestamppb.New(time.UnixMicro(accept.Int64))
		}
		if plan != nil {
			item.Plan = new(pb.Plan)
			if err := s.decode(plan, item.Plan); err != nil {
				return nil, nil, err
			}
		}
		if refusal != nil {
			item.Refusal = new(pb.RefusalInfo)
			if err := s.decode(refusal, item.Refusal); err != nil {
				return nil, nil, err
			}
		}
		items, rows = append(items, item), append(rows, row)
	}
	return items, rows, s.failed(found.Err())
}

// decode checks and decodes a stored message.
func (s *store) decode(stored []byte, into proto.Message) error {
	value, err := s.verified(stored)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(value, into); err != nil {
		return damaged(s.path, err)
	}
	return nil
}
