package node

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	pb "minato.example/proto/minato/v1"
)

// chunkSize is the size in bytes of a stored piece of a part.
const chunkSize = 256 << 10

// addPart stores the bytes of r and gives meta back with digest and size. The
// same bytes are stored once. More than limit bytes, or none, are refused and
// nothing is kept. No lock is held while r is read.
func (s *store) addPart(ctx context.Context, meta *pb.Part, r io.Reader, limit int64) (*pb.Part, error) {
	var (
		part  int64 // id of the row; 0 until the first chunk is written
		size  int64
		n     int
		sum   = sha256.New()
		chunk = make([]byte, chunkSize)
	)
	drop := func(err error) error {
		if part == 0 {
			return err
		}
		return errors.Join(err, s.update(context.WithoutCancel(ctx), func(tx *sql.Tx) error {
			_, err := tx.Exec(`DELETE FROM parts WHERE id = ?`, part)
			return err
		}))
	}
	for last := false; !last; n++ {
		if err := ctx.Err(); err != nil {
			return nil, drop(err)
		}
		got, err := io.ReadFull(r, chunk)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			last = true
		case err != nil:
			return nil, drop(fmt.Errorf("read the part: %w", err))
		}
		if size += int64(got); size > limit {
			return nil, drop(partTooLarge(meta.GetName(), limit))
		}
		if size == 0 {
			return nil, partEmpty(meta.GetName())
		}
		sum.Write(chunk[:got])
		err = s.update(ctx, func(tx *sql.Tx) error {
			row := part
			if row == 0 {
				done, err := tx.Exec(`INSERT INTO parts (size, use_time) VALUES (0, ?)`, micros(s.now()))
				if err != nil {
					return err
				}
				if row, err = done.LastInsertId(); err != nil {
					return err
				}
			}
			if got > 0 {
				if _, err := tx.Exec(`INSERT INTO chunks (part, n, data) VALUES (?, ?, ?)`, row, n, withSum(chunk[:got])); err != nil {
					return err
				}
			}
			if last {
				if err := s.finishPart(tx, row, sum.Sum(nil), size); err != nil {
					return err
				}
			}
			part = row
			return nil
		})
		if err != nil {
			return nil, drop(err)
		}
	}
	done := proto.CloneOf(meta)
	if done == nil {
		done = new(pb.Part)
	}
	done.Digest, done.Size = sum.Sum(nil), uint64(size)
	return done, nil
}

// finishPart gives the row its digest, or drops it when the bytes are there
// already. Those are then used now, so that they are not dropped as unused
// before the report comes.
func (s *store) finishPart(tx *sql.Tx, part int64, digest []byte, size int64) error {
	now := micros(s.now())
	done, err := tx.Exec(`UPDATE parts SET use_time = ? WHERE digest = ?`, now, digest)
	if err != nil {
		return err
	}
	there, err := done.RowsAffected()
	if err != nil {
		return err
	}
	if there > 0 {
		_, err = tx.Exec(`DELETE FROM parts WHERE id = ?`, part)
		return err
	}
	_, err = tx.Exec(`UPDATE parts SET digest = ?, size = ?, use_time = ? WHERE id = ?`, digest, size, now, part)
	return err
}

// hasPart says whether the bytes with this digest are here.
func (s *store) hasPart(ctx context.Context, digest []byte) (bool, error) {
	var there bool
	err := s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM parts WHERE digest = ?)`, digest).Scan(&there)
	return there, s.failed(err)
}

// partReader gives the bytes of a part. A damaged piece ends the reading with
// an error before any of it is handed over. It holds no lock between reads.
func (s *store) partReader(ctx context.Context, digest []byte) (io.ReadCloser, error) {
	r := &partReader{ctx: ctx, store: s}
	err := s.read.QueryRowContext(ctx, `SELECT id, size FROM parts WHERE digest = ?`, digest).Scan(&r.part, &r.left)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, partNotFound()
	}
	if err != nil {
		return nil, s.failed(err)
	}
	return r, nil
}

// partReader reads a part chunk by chunk.
type partReader struct {
	ctx   context.Context
	store *store
	part  int64
	n     int
	left  int64 // bytes not yet loaded
	chunk []byte
}

// Read implements io.Reader.
func (r *partReader) Read(p []byte) (int, error) {
	if len(r.chunk) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		var stored []byte
		err := r.store.read.QueryRowContext(r.ctx, `SELECT data FROM chunks WHERE part = ? AND n = ?`, r.part, r.n).Scan(&stored)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, damaged(r.store.path, errors.New("a piece of a part is missing"))
		}
		if err != nil {
			return 0, r.store.failed(err)
		}
		if r.chunk, err = r.store.verified(stored); err != nil {
			return 0, err
		}
		r.n++
		if r.left -= int64(len(r.chunk)); r.left < 0 || len(r.chunk) == 0 {
			return 0, damaged(r.store.path, errors.New("a part has another size"))
		}
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *partReader) Close() error { r.chunk, r.left = nil, 0; return nil }

// dropUnusedParts removes parts that no report names and that nobody has added
// since olderThan, and says how many. Uploads under way for as long count as
// given up.
func (s *store) dropUnusedParts(ctx context.Context, olderThan time.Time) (int, error) {
	var dropped int64
	err := s.update(ctx, func(tx *sql.Tx) error {
		done, err := tx.Exec(`DELETE FROM parts WHERE use_time < ?
			AND NOT EXISTS (SELECT 1 FROM outbox_parts u WHERE u.digest = parts.digest)
			AND NOT EXISTS (SELECT 1 FROM outbox_sealed u WHERE u.digest = parts.digest)
			AND NOT EXISTS (SELECT 1 FROM drafts_parts u WHERE u.digest = parts.digest)
			AND NOT EXISTS (SELECT 1 FROM inbox_live_parts u WHERE u.digest = parts.digest)
			AND NOT EXISTS (SELECT 1 FROM inbox_exercise_parts u WHERE u.digest = parts.digest)`, micros(olderThan))
		if err != nil {
			return err
		}
		dropped, err = done.RowsAffected()
		return err
	})
	return int(dropped), err
}

// useParts ties the parts of a report to its row.
func useParts(tx *sql.Tx, table string, row int64, digests [][]byte) error {
	for _, digest := range digests {
		var there bool
		if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM parts WHERE digest = ?)`, digest).Scan(&there); err != nil {
			return err
		}
		if !there {
			return partNotFound()
		}
		if _, err := tx.Exec(`INSERT INTO `+table+` (row, digest) VALUES (?, ?) ON CONFLICT DO NOTHING`, row, digest); err != nil {
			return err
		}
	}
	return nil
}
