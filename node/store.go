package node

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	pb "minato.example/proto/minato/v1"
	_ "modernc.org/sqlite" // the driver
)

const (
	// storeID marks the file as a node's store (PRAGMA application_id): "MNTO".
	storeID = 0x4d4e544f
	// alwaysCheckBelow and checkAfterKillBelow are sizes in bytes: a smaller
	// store is checked as a whole at every start, or at the start after a kill.
	// It takes about 15 ms a megabyte, so a quarter of a second and four
	// seconds at most.
	alwaysCheckBelow    = 16 << 20
	checkAfterKillBelow = 256 << 20
	// maxPage and defaultPage bound lists.
	maxPage     = 500
	defaultPage = 100
)

// store is the node's memory: outbox, inbox, receipts, parts, directory,
// profile and search index in one SQLite file. What a method has stored when
// it returns survives a crash and a power cut (WAL, synchronous=FULL).
//
// The two lanes have separate tables, built from one template, so that no
// query can read a drill as a real report or the reverse.
//
// A write that has begun is finished whatever its context does; a context only
// stops the wait for the one writer.
type store struct {
	path string
	// write has one connection: SQLite has one writer, and waiting for it here
	// is fair while SQLite's own waiting is not.
	write *sql.DB
	read  *sql.DB
	now   func() time.Time
}

// openStore opens the store at path and makes it when nothing is there. A
// damaged, foreign or newer file is refused and left as it is.
//
// SQLite has no checksum over its pages, so damage is looked for in three
// ways. Every start reads header, size and schema. PRAGMA quick_check walks the
// whole file when it is small, and after a kill or a power cut, which the
// write-ahead log left behind tells, also when it is larger; not when it is
// very large, since a terminal cannot wait for that. And every stored message
// carries a CRC that is checked whenever it is read, so that damage found by
// neither is still never served.
func openStore(path string) (*store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the store: %w", err)
	}
	s := &store{path: path, now: time.Now}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if info, err = s.create(); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("look at the store: %w", err)
	case !info.Mode().IsRegular():
		return nil, foreignFile(path, nil)
	case info.Size() == 0:
		// A new store comes by rename, never as an empty file.
		return nil, damaged(path, nil)
	}
	killed := false
	if wal, err := os.Stat(path + "-wal"); err == nil {
		killed = wal.Size() > 0
	}
	if err := checkHeader(path, killed); err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, fmt.Errorf("restrict the store: %w", err)
		}
	}
	if err := s.open(info.Size() < alwaysCheckBelow || killed && info.Size() < checkAfterKillBelow); err != nil {
		s.closeHandles()
		return nil, err
	}
	return s, nil
}

// checkHeader looks at the first 100 bytes by itself, since SQLite would turn
// an empty or a foreign file into its own before it could be asked what it is.
// The places are those of the SQLite file format, section 1.3.
func checkHeader(path string, killed bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	header := make([]byte, 100)
	_, err = io.ReadFull(f, header)
	if err == nil && (string(header[:16]) != "SQLite format 3\x00" || binary.BigEndian.Uint32(header[68:]) != storeID) {
		err = errors.New("no such header")
	}
	if err != nil {
		return foreignFile(path, err)
	}
	if version := binary.BigEndian.Uint32(header[60:]); version > uint32(len(migrations)) {
		return newerStore(path, version, len(migrations))
	}
	if header[18] != 2 || header[19] != 2 {
		return damaged(path, errors.New("journal mode in the header"))
	}
	page, pages := int64(binary.BigEndian.Uint16(header[16:])), int64(binary.BigEndian.Uint32(header[28:]))
	// After a crash the log holds what the file may lack.
	if !killed && info.Size() != page*pages {
		return damaged(path, fmt.Errorf("%d bytes instead of %d pages of %d", info.Size(), pages, page))
	}
	return nil
}

// create makes an empty store beside path and renames it, so that a crash
// leaves either no store or a whole one.
func (s *store) create() (fs.FileInfo, error) {
	for _, left := range []string{s.path + "-wal", s.path + "-journal"} {
		if info, err := os.Stat(left); err == nil && info.Size() > 0 {
			// SQLite would replay it into the new file.
			return nil, damaged(s.path, fmt.Errorf("%s is there without its store", left))
		}
	}
	fresh := s.path + ".new"
	for _, old := range []string{fresh, fresh + "-wal", fresh + "-shm", fresh + "-journal"} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("make the store: %w", err)
		}
	}
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the store: %w", err)
	}
	defer f.Close()
	temp := &store{path: fresh, now: s.now}
	err = temp.connect()
	if err == nil {
		err = temp.migrate(0)
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		os.Remove(fresh)
		return nil, fmt.Errorf("make the store: %w", s.failed(err))
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("make the store: %w", err)
	}
	if err := os.Rename(fresh, s.path); err != nil {
		return nil, fmt.Errorf("make the store: %w", err)
	}
	if err := syncDir(filepath.Dir(s.path)); err != nil {
		return nil, fmt.Errorf("make the store: %w", err)
	}
	return os.Stat(s.path)
}

// open connects to the file, proves that it is a store that this version
// knows, and brings it up to date.
func (s *store) open(check bool) error {
	if err := s.connect(); err != nil {
		return err
	}
	// The log may hold a newer header than the file.
	var version int
	if err := s.write.QueryRow(`PRAGMA user_version`).Scan(&version); err != nil {
		return s.failed(err)
	}
	if version > len(migrations) {
		return newerStore(s.path, uint32(version), len(migrations))
	}
	if check {
		if err := s.check(); err != nil {
			return err
		}
	}
	if err := s.migrate(version); err != nil {
		return err
	}
	// Uploads that a crash cut off.
	_, err := s.write.Exec(`DELETE FROM parts WHERE digest IS NULL`)
	return s.failed(err)
}

// connect opens the writer and the readers.
func (s *store) connect() error {
	var err error
	if s.write, err = sql.Open("sqlite", s.source("_txlock=immediate")); err != nil {
		return s.failed(err)
	}
	s.write.SetMaxOpenConns(1)
	if err := s.write.Ping(); err != nil {
		return s.failed(err)
	}
	if s.read, err = sql.Open("sqlite", s.source("_query_only=1")); err != nil {
		return s.failed(err)
	}
	s.read.SetMaxOpenConns(4)
	s.read.SetMaxIdleConns(4)
	return nil
}

// source is the driver's name for the file. mode=rw never makes a file;
// temp_store keeps content out of temporary files.
func (s *store) source(more string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(s.path)}
	return u.String() + "?mode=rw&_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1" +
		"&_dqs=0&_defensive=1&_error_rc=1&_pragma=fullfsync(1)&_pragma=temp_store(MEMORY)&_pragma=cache_size(-8000)&" + more
}

// check walks the whole file.
func (s *store) check() error {
	var verdict string
	if err := s.write.QueryRow(`PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return s.failed(err)
	}
	if verdict != "ok" {
		return damaged(s.path, errors.New(verdict))
	}
	return nil
}

// migrate applies what the file lacks, each step in a transaction.
func (s *store) migrate(version int) error {
	for ; version < len(migrations); version++ {
		err := s.update(context.Background(), func(tx *sql.Tx) error {
			if _, err := tx.Exec(migrations[version]); err != nil {
				return err
			}
			_, err := tx.Exec(fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = %d`, storeID, version+1))
			return err
		})
		if err != nil {
			return fmt.Errorf("bring the store to format %d: %w", version+1, err)
		}
	}
	return nil
}

// Close brings everything into the one file and closes it.
func (s *store) Close() error {
	if s.write == nil {
		return nil
	}
	var errs []error
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	_, err := s.write.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
	return errors.Join(append(errs, s.failed(err), s.write.Close())...)
}

// closeHandles closes without writing anything.
func (s *store) closeHandles() {
	if s.read != nil {
		s.read.Close()
	}
	if s.write != nil {
		s.write.Close()
	}
}

// update runs change in one transaction: all of it is durable when update
// returns nil, and nothing of it is there when it returns an error.
func (s *store) update(ctx context.Context, change func(*sql.Tx) error) error {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return s.failed(err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return s.failed(err)
	}
	if err := change(tx); err != nil {
		// SQLite may have rolled back by itself, e.g. on a full disk.
		_ = tx.Rollback()
		return s.failed(err)
	}
	if err := tx.Commit(); err != nil {
		_ = tx.Rollback()
		return s.failed(err)
	}
	return nil
}

// setMeta keeps a small value under a key, such as what joining gave.
func (s *store) setMeta(ctx context.Context, key string, value []byte) error {
	return s.update(ctx, func(tx *sql.Tx) error { return putMeta(tx, key, value) })
}

func putMeta(tx *sql.Tx, key string, value []byte) error {
	_, err := tx.Exec(`INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, withSum(value))
	return err
}

// meta reads the value under a key; ok is false when there is none.
func (s *store) meta(ctx context.Context, key string) (value []byte, ok bool, err error) {
	return s.metaFrom(ctx, s.read, key)
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (s *store) metaFrom(ctx context.Context, from querier, key string) ([]byte, bool, error) {
	var stored []byte
	err := from.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = ?`, key).Scan(&stored)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, s.failed(err)
	}
	value, err := s.verified(stored)
	return value, err == nil, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// withSum appends a CRC, since SQLite itself does not notice a flipped bit inside
// a value.
func withSum(value []byte) []byte {
	stored := make([]byte, 0, len(value)+4)
	stored = append(stored, value...)
	return binary.BigEndian.AppendUint32(stored, crc32.Checksum(value, castagnoli))
}

// verified checks and removes the CRC. Nothing damaged is ever served.
func (s *store) verified(stored []byte) ([]byte, error) {
	if len(stored) < 4 {
		return nil, damaged(s.path, errors.New("stored value is cut off"))
	}
	value, sum := stored[:len(stored)-4], stored[len(stored)-4:]
	if crc32.Checksum(value, castagnoli) != binary.BigEndian.Uint32(sum) {
		return nil, damaged(s.path, errors.New("checksum of a stored value differs"))
	}
	return value, nil
}

// tablesOf names the tables of a lane: inbox_live or inbox_exercise. It is the
// only way from a lane to a table.
func tablesOf(lane pb.Lane) (string, error) {
	switch lane {
	case pb.Lane_LANE_LIVE:
		return "inbox_live", nil
	case pb.Lane_LANE_EXERCISE:
		return "inbox_exercise", nil
	}
	return "", invalidLane()
}

// inLane writes a query for the tables of a lane; {inbox} stands for their
// common name.
func inLane(table, query string) string { return strings.ReplaceAll(query, "{inbox}", table) }

// pageSize bounds a page: 0 means 100, and 500 is the most.
func pageSize(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}

// before reads a page token: rows below it are on the page.
func before(token string) (int64, error) {
	if token == "" {
		return 1<<63 - 1, nil
	}
	row, err := strconv.ParseInt(token, 10, 64)
	if err != nil || row <= 0 {
		return 0, invalidToken()
	}
	return row, nil
}

func micros(t time.Time) int64 { return t.UnixMicro() }

// syncDir makes a rename inside dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// migrations are the steps from an empty file to the present format, forward
// only; a released step is never changed. Times are microseconds since 1970.
// Columns of type BLOB that hold a message end with a CRC (withSum).
var migrations = []string{
	`
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE members (id TEXT PRIMARY KEY, member BLOB NOT NULL) STRICT, WITHOUT ROWID;

-- digest is NULL until the last chunk is there.
CREATE TABLE parts (
	id INTEGER PRIMARY KEY, digest BLOB UNIQUE, size INTEGER NOT NULL, use_time INTEGER NOT NULL
) STRICT;
CREATE TABLE chunks (
	part INTEGER NOT NULL REFERENCES parts ON DELETE CASCADE, n INTEGER NOT NULL, data BLOB NOT NULL,
	PRIMARY KEY (part, n)
) STRICT;

CREATE TABLE outbox (
	row INTEGER PRIMARY KEY AUTOINCREMENT,
	report_id TEXT NOT NULL UNIQUE, case_id TEXT NOT NULL, sequence INTEGER NOT NULL,
	state INTEGER NOT NULL, retry_time INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, accept_time INTEGER, delay_reason TEXT NOT NULL DEFAULT '',
	request_id TEXT NOT NULL UNIQUE, item BLOB NOT NULL, plan BLOB, refusal BLOB, receipt BLOB, report BLOB NOT NULL, envelope BLOB NOT NULL,
	UNIQUE (case_id, sequence)
) STRICT;
CREATE INDEX outbox_by_state ON outbox (state, row);
CREATE TABLE outbox_parts (
	row INTEGER NOT NULL REFERENCES outbox, digest BLOB NOT NULL REFERENCES parts (digest), PRIMARY KEY (row, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_parts_by_digest ON outbox_parts (digest);

CREATE TABLE drafts (
	row INTEGER PRIMARY KEY AUTOINCREMENT, report_id TEXT NOT NULL UNIQUE, save_time INTEGER NOT NULL, report BLOB NOT NULL
) STRICT;
CREATE TABLE drafts_parts (
	row INTEGER NOT NULL REFERENCES drafts ON DELETE CASCADE, digest BLOB NOT NULL REFERENCES parts (digest), PRIMARY KEY (row, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX drafts_parts_by_digest ON drafts_parts (digest);

CREATE TABLE receipts_out (
	row INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, report_id TEXT NOT NULL, envelope BLOB NOT NULL
) STRICT;
CREATE TABLE delivery_marks (lane INTEGER PRIMARY KEY, delivery_sequence INTEGER NOT NULL) STRICT;
` + inLane("inbox_live", inboxTables) + inLane("inbox_exercise", inboxTables),
	`
-- sealed = 1: what is sent is sealed from the report when the hub is reached;
-- envelope is empty until then, and content_keys opens what it names.
ALTER TABLE outbox ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN content_keys BLOB;
CREATE TABLE outbox_sealed (
	row INTEGER NOT NULL REFERENCES outbox, digest BLOB NOT NULL REFERENCES parts (digest), PRIMARY KEY (row, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_sealed_by_digest ON outbox_sealed (digest);

-- The entries of the key directory that this node has signed.
CREATE TABLE own_keys (
	person TEXT NOT NULL, create_time INTEGER NOT NULL, key_id TEXT NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (person, create_time, key_id)
) STRICT, WITHOUT ROWID;
-- The keys of others as they were first seen, or confirmed since; node is the
-- one that signed the entry.
CREATE TABLE pins (
	member TEXT NOT NULL, person TEXT NOT NULL, node INTEGER NOT NULL, fingerprint TEXT NOT NULL, signer TEXT NOT NULL, pin_time INTEGER NOT NULL,
	PRIMARY KEY (member, person, node)
) STRICT, WITHOUT ROWID;
CREATE TABLE key_alarms (
	alarm TEXT PRIMARY KEY, japanese TEXT NOT NULL, english TEXT NOT NULL, first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, present INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rejections (
	row INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, report_id TEXT NOT NULL, reason TEXT NOT NULL, reject_time INTEGER NOT NULL
) STRICT;
` + inLane("inbox_live", inboxSeals) + inLane("inbox_exercise", inboxSeals),
}

// inboxSeals adds what a seal held (NULL when the report came open, or when
// nobody here can open it), the label that the source has given since, and the
// label that a person here has given; 0 is none. {inbox}_deliveries are the
// earlier deliveries of a report that nobody here can open: each has wraps that
// no other one has.
const inboxSeals = `
ALTER TABLE {inbox} ADD COLUMN report BLOB;
ALTER TABLE {inbox} ADD COLUMN relabelled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {inbox} ADD COLUMN narrowed INTEGER NOT NULL DEFAULT 0;
CREATE TABLE {inbox}_deliveries (
	row INTEGER NOT NULL REFERENCES {inbox}, delivery_sequence INTEGER NOT NULL, delivery BLOB NOT NULL, PRIMARY KEY (row, delivery_sequence)
) STRICT, WITHOUT ROWID;
`

// inboxTables are the tables of one lane. The word index holds only the index
// (contentless): the words are not stored a second time.
const inboxTables = `
CREATE TABLE {inbox} (
	row INTEGER PRIMARY KEY AUTOINCREMENT,
	report_id TEXT NOT NULL UNIQUE, delivery_sequence INTEGER NOT NULL,
	reaction INTEGER NOT NULL DEFAULT 0, reaction_person TEXT NOT NULL DEFAULT '', reaction_time INTEGER,
	item BLOB NOT NULL, delivery BLOB NOT NULL
) STRICT;
CREATE INDEX {inbox}_by_reaction ON {inbox} (reaction);
CREATE TABLE {inbox}_parts (
	row INTEGER NOT NULL REFERENCES {inbox}, digest BLOB NOT NULL REFERENCES parts (digest), PRIMARY KEY (row, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX {inbox}_parts_by_digest ON {inbox}_parts (digest);
CREATE TABLE {inbox}_indicators (
	value TEXT NOT NULL, type INTEGER NOT NULL, row INTEGER NOT NULL REFERENCES {inbox}, PRIMARY KEY (value, type, row)
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE {inbox}_words USING fts5 (words, content = '', contentless_delete = 1, tokenize = 'ascii', prefix = '4');
`
