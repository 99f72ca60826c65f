package node

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/seal"
	"minato.example/internal/stix"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// inboxRow is one received report in short with its place in the inbox.
type inboxRow struct {
	row      int64 // grows with every report of the lane; never used twice
	item     *pb.InboxItem
	narrowed bool // the label that a person here has given is the stricter one
}

// arrival is one delivery as it is stored.
type arrival struct {
	delivery *pb.Delivery
	// report is what the member may read; nil while it is sealed to persons
	// whose keys are not here.
	report *pb.Report
	// outline is that of a sealed report.
	outline *pb.Outline
	// opened is set when report came out of a seal, so that it is stored beside
	// the delivery.
	opened bool
	// parts of the report; addPart has stored them.
	parts []*pb.Part
	// ciphertexts are kept for those who will open them.
	ciphertexts [][]byte
	// observables are what the caller found in the STIX bundle.
	observables []stix.Observable
	// unlisted says that the directory did not have the source.
	unlisted bool
}

// receive stores a delivery that came open.
func (s *store) receive(ctx context.Context, lane pb.Lane, d *pb.Delivery, report *pb.Report, parts []*pb.Part, observables []stix.Observable) (isNew bool, err error) {
	return s.keep(ctx, lane, arrival{delivery: d, report: report, parts: parts, observables: observables})
}

// keep stores a delivery, its index and its mark in one transaction. isNew is
// false when the report is here already: then nothing is shown twice. A report
// that was sealed so far and is open now takes the place of what was stored.
func (s *store) keep(ctx context.Context, lane pb.Lane, a arrival) (isNew bool, err error) {
	inbox, err := tablesOf(lane)
	if err != nil {
		return false, err
	}
	d := a.delivery
	id := d.GetReportId()
	reported, of := a.report.GetReportId(), a.report.GetLane()
	if a.report == nil {
		reported, of = a.outline.GetReportId(), a.outline.GetLane()
	}
	if d.GetLane() != lane || of != lane {
		return false, mixedLanes()
	}
	if !isID(id, 32) || reported != id {
		return false, invalidID(id)
	}
	item := itemOf(d, a.report, a.outline, a.parts)
	item.SourceUnlisted = a.unlisted
	item.StoreTime = timestamppb.New(s.now())
	var opened []byte
	if a.opened {
		if opened, err = proto.Marshal(a.report); err != nil {
			return false, fmt.Errorf("encode the report: %w", err)
		}
		opened = withSum(opened)
	}
	words, found := indexed(d, a.report, a.observables)
	digests := slices.Clone(a.ciphertexts)
	for _, part := range a.parts {
		digests = append(digests, part.GetDigest())
	}
	err = s.update(ctx, func(tx *sql.Tx) error {
		if err := markDelivery(tx, lane, d.GetDeliverySequence()); err != nil {
			return err
		}
		row, had, err := s.inboxRow(tx, inbox, id)
		if err != nil {
			return err
		}
		if had != nil && !had.GetSealed() {
			// More persons may read what is open here already.
			if !union(&had.Persons, item.GetPersons()) {
				return nil
			}
			return putItem(tx, inbox, row, had)
		}
		if had != nil {
			// It was given to further persons since. What came before stays: it
			// has the wraps of the others, under a signature of its own.
			union(&item.Persons, had.GetPersons())
			item.StoreTime = had.GetStoreTime()
			if _, err := tx.Exec(inLane(inbox, `INSERT INTO {inbox}_deliveries (row, delivery_sequence, delivery)
				SELECT row, delivery_sequence, delivery FROM {inbox} WHERE row = ? AND delivery_sequence <> ? ON CONFLICT DO NOTHING`),
				row, int64(d.GetDeliverySequence())); err != nil {
				return err
			}
		}
		delivery, err := proto.Marshal(d)
		if err != nil {
			return fmt.Errorf("encode the delivery: %w", err)
		}
		if had != nil {
			if _, err := tx.Exec(inLane(inbox, `UPDATE {inbox} SET delivery_sequence = ?, delivery = ?, report = ? WHERE row = ?`),
				int64(d.GetDeliverySequence()), withSum(delivery), opened, row); err != nil {
				return err
			}
			if err := putItem(tx, inbox, row, item); err != nil {
				return err
			}
		} else {
			encoded, err := proto.Marshal(item)
			if err != nil {
				return fmt.Errorf("encode the inbox item: %w", err)
			}
			done, err := tx.Exec(inLane(inbox, `INSERT INTO {inbox} (report_id, delivery_sequence, item, delivery, report) VALUES (?, ?, ?, ?, ?)`),
				id, int64(d.GetDeliverySequence()), withSum(encoded), withSum(delivery), opened)
			if err != nil {
				return err
			}
			if row, err = done.LastInsertId(); err != nil {
				return err
			}
			isNew = true
		}
		if err := useParts(tx, inbox+"_parts", row, digests); err != nil {
			return err
		}
		if a.report == nil {
			return nil
		}
		return s.index(tx, inbox, row, words, found)
	})
	return isNew && err == nil, err
}

// inboxRow finds the row of a report; the item is nil when there is none.
func (s *store) inboxRow(tx *sql.Tx, inbox, id string) (row int64, item *pb.InboxItem, err error) {
	var stored []byte
	err = tx.QueryRow(inLane(inbox, `SELECT row, item FROM {inbox} WHERE report_id = ?`), id).Scan(&row, &stored)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	item = new(pb.InboxItem)
	return row, item, s.decode(stored, item)
}

func putItem(tx *sql.Tx, inbox string, row int64, item *pb.InboxItem) error {
	encoded, err := proto.Marshal(item)
	if err != nil {
		return fmt.Errorf("encode the inbox item: %w", err)
	}
	_, err = tx.Exec(inLane(inbox, `UPDATE {inbox} SET item = ? WHERE row = ?`), withSum(encoded), row)
	return err
}

// union adds what is missing, sorted, and reports whether anything was.
func union(to *[]string, more []string) bool {
	before := len(*to)
	all := append(slices.Clone(*to), more...)
	slices.Sort(all)
	*to = slices.Compact(all)
	return len(*to) > before
}

// relabel notes the label that the source has given a report since. A report
// that is not here changes nothing but the mark; so does a wider label for one
// that came sealed, unless the source has signed it.
func (s *store) relabel(ctx context.Context, lane pb.Lane, d *pb.Delivery, signed bool) (known bool, err error) {
	inbox, err := tablesOf(lane)
	if err != nil {
		return false, err
	}
	err = s.update(ctx, func(tx *sql.Tx) error {
		if err := markDelivery(tx, lane, d.GetDeliverySequence()); err != nil {
			return err
		}
		var row int64
		var stored []byte
		var now tlp.Label
		err := tx.QueryRow(inLane(inbox, `SELECT row, item, relabelled FROM {inbox} WHERE report_id = ?`), d.GetRelabelling().GetReportId()).Scan(&row, &stored, &now)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		item := new(pb.InboxItem)
		if err := s.decode(stored, item); err != nil {
			return err
		}
		came, _, err := tlp.Parse(item.GetTlp())
		if err != nil {
			return damaged(s.path, err)
		}
		if !now.Valid() {
			now = came
		}
		bySource := signed && item.GetSource() != "" && item.GetSource() == d.GetSource()
		if label := tlp.Label(d.GetRelabelling().GetTlp()); came.NeedsSeal() && !bySource && tlp.Strictest(label, now) != label {
			return nil
		}
		known = true
		_, err = tx.Exec(inLane(inbox, `UPDATE {inbox} SET relabelled = ? WHERE row = ?`), d.GetRelabelling().GetTlp(), row)
		return err
	})
	return known, err
}

// narrow gives a received report (full id) a stricter label, on this node only.
func (s *store) narrow(ctx context.Context, lane pb.Lane, id string, label tlp.Label) error {
	inbox, err := tablesOf(lane)
	if err != nil {
		return err
	}
	return s.update(ctx, func(tx *sql.Tx) error {
		done, err := tx.Exec(inLane(inbox, `UPDATE {inbox} SET narrowed = max(narrowed, ?) WHERE report_id = ?`), int(label), id)
		if err != nil {
			return err
		}
		if changed, err := done.RowsAffected(); err != nil {
			return err
		} else if changed == 0 {
			return notFound(id)
		}
		return nil
	})
}

// labelOf writes the label of a report as FIRST does; empty for an unknown one.
func labelOf(r *pb.Report) string {
	l := tlp.Label(r.GetTlp())
	if pb.TlpLabel(l) != r.GetTlp() || !l.Valid() {
		return ""
	}
	return l.String()
}

// reject passes over a delivery that cannot be stored, e.g. because its
// signature does not verify: its mark moves and the receipt that says so is
// queued for the hub.
func (s *store) reject(ctx context.Context, lane pb.Lane, d *pb.Delivery, receiptEnvelope []byte) error {
	if _, err := tablesOf(lane); err != nil {
		return err
	}
	return s.update(ctx, func(tx *sql.Tx) error {
		if err := markDelivery(tx, lane, d.GetDeliverySequence()); err != nil {
			return err
		}
		_, err := queueReceipt(tx, lane, d.GetReportId(), receiptEnvelope)
		return err
	})
}

func markDelivery(tx *sql.Tx, lane pb.Lane, sequence uint64) error {
	_, err := tx.Exec(`INSERT INTO delivery_marks (lane, delivery_sequence) VALUES (?, ?)
		ON CONFLICT (lane) DO UPDATE SET delivery_sequence = max(delivery_sequence, excluded.delivery_sequence)`, lane, int64(sequence))
	return err
}

// lastDelivery is the highest delivery sequence of a lane that receive or
// reject has seen; 0 when there was none.
func (s *store) lastDelivery(ctx context.Context, lane pb.Lane) (uint64, error) {
	if _, err := tablesOf(lane); err != nil {
		return 0, err
	}
	var sequence int64
	err := s.read.QueryRowContext(ctx, `SELECT coalesce(max(delivery_sequence), 0) FROM delivery_marks WHERE lane = ?`, lane).Scan(&sequence)
	return uint64(sequence), s.failed(err)
}

// list gives the reports of a lane after a row, oldest first. limit 0 means
// 100, at most 500.
func (s *store) list(ctx context.Context, lane pb.Lane, afterRow int64, limit int) ([]inboxRow, error) {
	inbox, err := tablesOf(lane)
	if err != nil {
		return nil, err
	}
	return s.inboxRows(ctx, inbox, `row > ? ORDER BY row LIMIT ?`, afterRow, pageSize(limit))
}

// item reads a received report in short, by its id or the start of it.
func (s *store) item(ctx context.Context, lane pb.Lane, idOrPrefix string) (*pb.InboxItem, error) {
	inbox, err := tablesOf(lane)
	if err != nil {
		return nil, err
	}
	id, err := s.complete(ctx, inbox, idOrPrefix)
	if err != nil {
		return nil, err
	}
	r, err := s.rowOf(ctx, lane, id)
	return r.item, err
}

// rowOf reads a received report in short, by its full id.
func (s *store) rowOf(ctx context.Context, lane pb.Lane, id string) (inboxRow, error) {
	inbox, err := tablesOf(lane)
	if err != nil {
		return inboxRow{}, err
	}
	rows, err := s.inboxRows(ctx, inbox, `report_id = ?`, id)
	if err == nil && len(rows) == 0 {
		err = notFound(id)
	}
	if err != nil {
		return inboxRow{}, err
	}
	return rows[0], nil
}

func (s *store) inboxRows(ctx context.Context, inbox, where string, args ...any) ([]inboxRow, error) {
	found, err := s.read.QueryContext(ctx, inLane(inbox, `SELECT row, reaction, item, relabelled, narrowed FROM {inbox} WHERE `)+where, args...)
	if err != nil {
		return nil, s.failed(err)
	}
	defer found.Close()
	var rows []inboxRow
	for found.Next() {
		r := inboxRow{item: new(pb.InboxItem)}
		var reaction pb.Reaction
		var relabelled, narrowed tlp.Label
		var stored []byte
		if err := found.Scan(&r.row, &reaction, &stored, &relabelled, &narrowed); err != nil {
			return nil, s.failed(err)
		}
		if err := s.decode(stored, r.item); err != nil {
			return nil, err
		}
		present(r.item, relabelled, 0, s.now())
		before := r.item.GetTlp()
		present(r.item, 0, narrowed, s.now())
		r.item.Reaction, r.narrowed = reaction, r.item.GetTlp() != before
		rows = append(rows, r)
	}
	return rows, s.failed(found.Err())
}

// reportOf reads a received report as it was signed, or as it came out of its
// seal, and its delivery, by its id or the start of it. The report is nil while
// it is sealed.
func (s *store) reportOf(ctx context.Context, lane pb.Lane, idOrPrefix string) (*pb.Report, *pb.Delivery, error) {
	inbox, err := tablesOf(lane)
	if err != nil {
		return nil, nil, err
	}
	id, err := s.complete(ctx, inbox, idOrPrefix)
	if err != nil {
		return nil, nil, err
	}
	var stored, opened []byte
	err = s.read.QueryRowContext(ctx, inLane(inbox, `SELECT delivery, report FROM {inbox} WHERE report_id = ?`), id).Scan(&stored, &opened)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil, notFound(idOrPrefix)
	}
	if err != nil {
		return nil, nil, s.failed(err)
	}
	d, report := new(pb.Delivery), new(pb.Report)
	if err := s.decode(stored, d); err != nil {
		return nil, nil, err
	}
	if opened != nil {
		return report, d, s.decode(opened, report)
	}
	switch d.GetEnvelope().GetPayloadType() {
	case seal.SealedReportType(lane), seal.SealedCopyType(lane):
		return nil, d, nil
	}
	if err := proto.Unmarshal(d.GetEnvelope().GetPayload(), report); err != nil {
		return nil, nil, damaged(s.path, err)
	}
	return report, d, nil
}

// sealedDelivery reads the last delivery of a sealed report (full id) whose lock
// has a wrap for a person and key; an empty person or key is any. Without one
// for them it is the last of all, which tells them so.
func (s *store) sealedDelivery(ctx context.Context, lane pb.Lane, id, person, keyID string) (*pb.Delivery, *lock, error) {
	inbox, err := tablesOf(lane)
	if err != nil {
		return nil, nil, err
	}
	found, err := s.read.QueryContext(ctx, inLane(inbox, `SELECT delivery_sequence, delivery FROM {inbox} WHERE report_id = ?1
		UNION ALL SELECT d.delivery_sequence, d.delivery FROM {inbox}_deliveries d JOIN {inbox} i ON d.row = i.row WHERE i.report_id = ?1
		ORDER BY 1 DESC`), id)
	if err != nil {
		return nil, nil, s.failed(err)
	}
	defer found.Close()
	var last *pb.Delivery
	var lastLock *lock
	for found.Next() {
		var sequence int64
		var stored []byte
		if err := found.Scan(&sequence, &stored); err != nil {
			return nil, nil, s.failed(err)
		}
		d := new(pb.Delivery)
		if err := s.decode(stored, d); err != nil {
			return nil, nil, err
		}
		l, err := lockAgain(d)
		if err != nil {
			return nil, nil, damaged(s.path, err)
		}
		if slices.ContainsFunc(l.wraps, func(w *pb.Wrap) bool {
			return (person == "" || w.GetPerson() == person) && (keyID == "" || w.GetKeyId() == keyID)
		}) {
			return d, l, nil
		}
		if last == nil {
			last, lastLock = d, l
		}
	}
	if err := found.Err(); err != nil {
		return nil, nil, s.failed(err)
	}
	if last == nil {
		return nil, nil, notFound(id)
	}
	return last, lastLock, nil
}

// react keeps a person's reaction to a report (full id) and queues its signed
// receipt for the hub. The last reaction counts. It gives the receipt's number
// in the queue, which receiptWaits takes.
func (s *store) react(ctx context.Context, lane pb.Lane, reportID string, reaction pb.Reaction, person string, at time.Time, receiptEnvelope []byte) (receipt int64, err error) {
	inbox, err := tablesOf(lane)
	if err != nil {
		return 0, err
	}
	err = s.update(ctx, func(tx *sql.Tx) error {
		done, err := tx.Exec(inLane(inbox, `UPDATE {inbox} SET reaction = ?, reaction_person = ?, reaction_time = ? WHERE report_id = ?`),
			reaction, person, micros(at), reportID)
		if err != nil {
			return err
		}
		if changed, err := done.RowsAffected(); err != nil {
			return err
		} else if changed == 0 {
			return notFound(reportID)
		}
		receipt, err = queueReceipt(tx, lane, reportID, receiptEnvelope)
		return err
	})
	return receipt, err
}

// receiptOut is a signed delivery receipt that the hub has not recorded yet.
type receiptOut struct {
	id       int64
	lane     pb.Lane
	reportID string
	envelope []byte
}

func queueReceipt(tx *sql.Tx, lane pb.Lane, reportID string, envelope []byte) (int64, error) {
	done, err := tx.Exec(`INSERT INTO receipts_out (lane, report_id, envelope) VALUES (?, ?, ?)`, lane, reportID, withSum(envelope))
	if err != nil {
		return 0, err
	}
	return done.LastInsertId()
}

// nextReceipt is the oldest receipt that waits for the hub; ok is false when
// there is none.
func (s *store) nextReceipt(ctx context.Context) (r receiptOut, ok bool, err error) {
	var stored []byte
	err = s.read.QueryRowContext(ctx, `SELECT row, lane, report_id, envelope FROM receipts_out ORDER BY row LIMIT 1`).
		Scan(&r.id, &r.lane, &r.reportID, &stored)
	if errors.Is(err, sql.ErrNoRows) {
		return receiptOut{}, false, nil
	}
	if err != nil {
		return receiptOut{}, false, s.failed(err)
	}
	if r.envelope, err = s.verified(stored); err != nil {
		return receiptOut{}, false, err
	}
	return r, true, nil
}

// markReceiptSent takes a receipt out of the queue. Doing it again changes
// nothing.
func (s *store) markReceiptSent(ctx context.Context, id int64) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM receipts_out WHERE row = ?`, id)
		return err
	})
}

// receiptWaits says whether a receipt is still in the queue.
func (s *store) receiptWaits(ctx context.Context, id int64) (bool, error) {
	var waits bool
	err := s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM receipts_out WHERE row = ?)`, id).Scan(&waits)
	return waits, s.failed(err)
}

// resolve completes the start of a report id over outbox and both lanes. The
// same id in more than one of them is one id.
func (s *store) resolve(ctx context.Context, idOrPrefix string) (reportID string, err error) {
	return s.complete(ctx, `(SELECT report_id FROM outbox UNION ALL SELECT report_id FROM inbox_live UNION ALL SELECT report_id FROM inbox_exercise)`, idOrPrefix)
}

// complete turns the start of an id, 6 digits or more, into the one id of the
// table that starts with it.
func (s *store) complete(ctx context.Context, table, idOrPrefix string) (string, error) {
	prefix := strings.ToLower(strings.TrimSpace(idOrPrefix))
	if len(prefix) < 6 || len(prefix) > 32 || !isID(prefix, len(prefix)) {
		return "", invalidID(idOrPrefix)
	}
	found, err := s.read.QueryContext(ctx, `SELECT DISTINCT report_id FROM `+table+` WHERE report_id >= ? AND report_id < ? LIMIT 2`, prefix, prefix+"g")
	if err != nil {
		return "", s.failed(err)
	}
	defer found.Close()
	var ids []string
	for found.Next() {
		var id string
		if err := found.Scan(&id); err != nil {
			return "", s.failed(err)
		}
		ids = append(ids, id)
	}
	if err := found.Err(); err != nil {
		return "", s.failed(err)
	}
	switch len(ids) {
	case 0:
		return "", notFound(idOrPrefix)
	case 1:
		return ids[0], nil
	}
	return "", ambiguous(idOrPrefix)
}

// isID says whether s is n lower-case hexadecimal digits.
func isID(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// storeCounts are the numbers that the status shows.
type storeCounts struct {
	queued, accepted, refused uint32 // published here
	received, unacknowledged  uint32 // live
	exercises                 uint32 // received
	receipts                  uint32 // waiting for the hub
}

// counts reads the numbers for the status.
func (s *store) counts(ctx context.Context) (c storeCounts, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM outbox WHERE state = ?), (SELECT count(*) FROM outbox WHERE state = ?), (SELECT count(*) FROM outbox WHERE state = ?),
		(SELECT count(*) FROM inbox_live), (SELECT count(*) FROM inbox_live WHERE reaction = 0),
		(SELECT count(*) FROM inbox_exercise), (SELECT count(*) FROM receipts_out)`,
		pb.OutboxState_OUTBOX_STATE_QUEUED, pb.OutboxState_OUTBOX_STATE_ACCEPTED, pb.OutboxState_OUTBOX_STATE_REFUSED).
		Scan(&c.queued, &c.accepted, &c.refused, &c.received, &c.unacknowledged, &c.exercises, &c.receipts)
	return c, s.failed(err)
}
