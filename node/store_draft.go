package node

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
)

// saveDraft keeps a draft under an id, in place of what was there. Its parts
// have been stored by addPart and stay as long as the draft.
func (s *store) saveDraft(ctx context.Context, id string, r *pb.Report) (*pb.Draft, error) {
	if !isID(id, 32) {
		return nil, invalidID(id)
	}
	report, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the draft: %w", err)
	}
	var digests [][]byte
	for _, p := range r.Parts() {
		digests = append(digests, p.GetDigest())
	}
	now := s.now()
	err = s.update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.Exec(`DELETE FROM drafts WHERE report_id = ?`, id); err != nil {
			return err
		}
		done, err := tx.Exec(`INSERT INTO drafts (report_id, save_time, report) VALUES (?, ?, ?)`, id, micros(now), withSum(report))
		if err != nil {
			return err
		}
		row, err := done.LastInsertId()
		if err != nil {
			return err
		}
		return useParts(tx, "drafts_parts", row, digests)
	})
	if err != nil {
		return nil, err
	}
	return &pb.Draft{Draft: id, Report: r, SaveTime: timestamppb.New(now)}, nil
}

// listDrafts lists the drafts, newest first. limit 0 means 100, at most 500;
// next is empty on the last page.
func (s *store) listDrafts(ctx context.Context, limit int, token string) (drafts []*pb.Draft, next string, err error) {
	below, err := before(token)
	if err != nil {
		return nil, "", err
	}
	limit = pageSize(limit)
	found, err := s.read.QueryContext(ctx, `SELECT row, report_id, save_time, report FROM drafts WHERE row < ? ORDER BY row DESC LIMIT ?`, below, limit+1)
	if err != nil {
		return nil, "", s.failed(err)
	}
	defer found.Close()
	var last int64
	for found.Next() {
		var row, saved int64
		var stored []byte
		d := &pb.Draft{Report: new(pb.Report)}
		if err := found.Scan(&row, &d.Draft, &saved, &stored); err != nil {
			return nil, "", s.failed(err)
		}
		if len(drafts) == limit {
			return drafts, strconv.FormatInt(last, 10), nil
		}
		if err := s.decode(stored, d.Report); err != nil {
			return nil, "", err
		}
		d.SaveTime = timestamppb.New(time.UnixMicro(saved))
		drafts, last = append(drafts, d), row
	}
	return drafts, "", s.failed(found.Err())
}

// deleteDraft removes a draft by its id or the start of it.
func (s *store) deleteDraft(ctx context.Context, idOrPrefix string) error {
	id, err := s.complete(ctx, `drafts`, idOrPrefix)
	if err != nil {
		return err
	}
	return s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM drafts WHERE report_id = ?`, id)
		return err
	})
}
