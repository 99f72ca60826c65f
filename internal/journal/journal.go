// Package journal keeps what the hub has promised: an embedded NATS server
// with JetStream, its streams, and the barrier that puts them on disk before
// anybody is told so.
//
// A record is appended, then made durable, then acknowledged to whoever sent
// it:
//
//	seq, err := j.Append(ctx, journal.LiveReports, reportID, record)
//	...
//	err = j.Durable(ctx) // shared with everybody else who waits
//
// Keys and data are encrypted in the files (AES-256-GCM, keys derived from
// Config.Key). Members reach the server only through their own account, which
// has no JetStream; see [Grant].
package journal

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Config is what a journal needs. Dir, Key and Log are required.
type Config struct {
	// Dir is the journal's own directory, mode 0700, best the root of a
	// volume of its own.
	Dir string
	// Key is 32 bytes. Whoever holds it reads the files.
	Key []byte
	// MaxBytes caps the store. Zero means 80 % of what the volume offers at
	// start (free space and what the journal holds already), at least 256 MiB.
	// It is divided among the streams. Open gives them more when it has grown
	// by over 2 %, and only caps their sum when it has shrunk.
	MaxBytes int64
	// Log gets what the server says. It never gets content.
	Log *slog.Logger
	// Listen opens the door for members. Nil: no door.
	Listen *Listen
}

// Listen is the door for members.
type Listen struct {
	// Addr is host:port; port 0 takes a free one.
	Addr string
	// TLS is the server's side. TLS 1.3 and a verified client certificate are
	// demanded whatever it says.
	TLS *tls.Config
	// Authorize decides over a connection by its verified certificate. It is
	// called once a connection, at login. It must not call Disconnect.
	Authorize func(cs tls.ConnectionState) (g Grant, ok bool)
}

// Grant is what one connection of a member may do.
type Grant struct {
	// User names the member's node for Disconnect.
	User string
	// Publish lists subjects below hub.<name>., Subscribe subjects below
	// d.<name>. or _INBOX.<name>.; anything else refuses the login, and an
	// empty list allows nothing.
	Publish, Subscribe []string
	// Deadline closes the connection, normally at the end of the certificate.
	Deadline time.Time
}

// Journal is an open journal. Its methods may be called from many goroutines.
type Journal struct {
	log     *slog.Logger
	dir     string
	lock    *os.File
	server  *embedded
	writes  *nats.Conn // appends
	reads   *nats.Conn // gets, so that readers do not queue behind writers
	slots   chan struct{}
	barrier *barrier
	tail    *tail
	parts   []byte // key from which the keys of parts are derived
	wake    map[Stream]*signal
	lost    signal                // raised when reads loses its connection, and answers with it
	damage  atomic.Pointer[error] // the first that was found; final
	closing chan struct{}
	close   sync.Once
	closed  error // result of Close
}

const (
	storeDir = "store"              // the journal: mark and the server's files
	newDir   = ".incomplete"        // Create works here and renames at the end
	markFile = "minato-journal"     // in storeDir; says what this is and checks the key
	lockFile = "lock"               // held as long as a process works here
	markHead = "minato journal 1\n" // followed by a MAC and a line end
)

// Create makes a journal in cfg.Dir and writes first as its first DIRECTORY
// record. All is durable when it returns. A directory that holds anything is
// refused with ErrExists; one that a crashed Create left behind is not.
// cfg.Listen is not used.
func Create(ctx context.Context, cfg Config, first []byte) (err error) {
	if err := cfg.check(); err != nil {
		return err
	}
	if len(first) == 0 {
		return errors.New("journal: the first record is empty")
	}
	cfg.Listen = nil
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make journal directory: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := onlyOurs(cfg.Dir); err != nil {
		return err
	}
	limit, err := cfg.limit(true)
	if err != nil {
		return err
	}
	work := filepath.Join(cfg.Dir, newDir)
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("remove what an earlier attempt left: %w", err)
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return fmt.Errorf("make journal directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	if err := build(ctx, cfg, work, limit, first); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, markFile), mark(cfg.Key), 0o600); err != nil {
		return fmt.Errorf("mark the journal: %w", err)
	}
	end := newTail(work, cfg.Key, nil)
	end.durable = positions{Directory: 1}
	if err := end.write(); err != nil {
		return err
	}
	// All is on disk before it gets its name, so a named journal is a whole one.
	if err := newFileSync(work).sync(); err != nil {
		return fmt.Errorf("sync the new journal: %w", err)
	}
	if err := os.Rename(work, filepath.Join(cfg.Dir, storeDir)); err != nil {
		return fmt.Errorf("name the new journal: %w", err)
	}
	for _, dir := range []string{cfg.Dir, filepath.Dir(filepath.Clean(cfg.Dir))} {
		if err := syncPath(dir); err != nil {
			return fmt.Errorf("sync the journal's directory: %w", err)
		}
	}
	return nil
}

// build starts a server in work, makes the streams and writes the first record.
func build(ctx context.Context, cfg Config, work string, limit int64, first []byte) (err error) {
	srv, err := startServer(ctx, cfg, work, limit)
	if err != nil {
		return err
	}
	defer srv.stop()
	nc, err := srv.connect(hubUser)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := createStreams(ctx, nc, limit); err != nil {
		return err
	}
	j := &Journal{writes: nc, wake: newSignals(), closing: make(chan struct{})}
	if _, err := j.Append(ctx, Directory, "founded", first); err != nil {
		return fmt.Errorf("write the first record: %w", err)
	}
	return nil
}

// Open opens the journal in cfg.Dir. It never makes a stream: with a wrong key,
// making one destroys the data of the old. What it finds is on disk when it
// returns. Errors are a *Fault of kind ErrMissing, ErrKey,
// ErrDamaged or ErrInUse where the directory is the cause.
func Open(ctx context.Context, cfg Config) (_ *Journal, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := checkMark(cfg.Dir, cfg.Key); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		log:     cfg.Log,
		dir:     cfg.Dir,
		lock:    lock,
		slots:   make(chan struct{}, fetchSlots),
		parts:   derive(cfg.Key, "minato journal parts"),
		wake:    newSignals(),
		closing: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			j.release()
		}
	}()
	limit, err := cfg.limit(false)
	if err != nil {
		return nil, err
	}
	if err := checkStreamDirs(filepath.Join(cfg.Dir, storeDir)); err != nil {
		return nil, err
	}
	if j.server, err = startServer(ctx, cfg, filepath.Join(cfg.Dir, storeDir), limit); err != nil {
		return nil, err
	}
	if err := j.server.healthy(); err != nil {
		return nil, damaged("the store could not be read whole", "記録の全部を読み出せません", err)
	}
	if j.writes, err = j.server.connect(hubUser); err != nil {
		return nil, err
	}
	if j.reads, err = j.server.connect(hubUser); err != nil {
		return nil, err
	}
	j.reads.SetDisconnectErrHandler(func(*nats.Conn, error) { j.lost.raise() })
	at, err := checkStreams(ctx, j.writes)
	if err != nil {
		return nil, err
	}
	if err := checkTail(filepath.Join(cfg.Dir, storeDir), cfg.Key, at); err != nil {
		return nil, err
	}
	j.tail = newTail(filepath.Join(cfg.Dir, storeDir), cfg.Key, at)
	switch r, err := j.Get(ctx, Directory, 1); {
	case errors.Is(err, ErrNotFound):
		return nil, damaged("the first record is missing", "最初の記録がありません", nil)
	case err != nil:
		return nil, fmt.Errorf("read the first record: %w", err)
	case len(r.Data) == 0:
		return nil, damaged("the first record is empty", "最初の記録が空です", nil)
	}
	if err := raiseCaps(ctx, j.writes, limit); err != nil {
		return nil, err
	}
	if err := j.sweepParts(ctx); err != nil {
		return nil, err
	}
	flush, err := newSync(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("prepare the durability barrier: %w", err)
	}
	// Records of a process that was killed may still be only in the page
	// cache; readers must not act on them before they are on disk.
	j.barrier = newBarrier(j.tail.around(flush), func(err error) {
		j.log.Error("journal sync failed", "err", err)
	})
	if err := j.barrier.wait(ctx); err != nil {
		return nil, err
	}
	j.server.open()
	return j, nil
}

// Healthy returns nil while the journal can be relied on. After an error from
// the disk, or a record that could not be read, it stays unhealthy until the
// process has been restarted.
func (j *Journal) Healthy() error {
	if j.isClosed() {
		return ErrClosed
	}
	if err := j.barrier.failed(); err != nil {
		return err
	}
	if err := j.server.healthy(); err != nil {
		return broken(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	for name, s := range streams {
		if s.kind != once {
			continue
		}
		// A server that is slow to answer is not a broken one.
		if c, err := j.contents(ctx, name, ""); err == nil && c.lacks(name) {
			return j.unreadable(name)
		}
	}
	if err := j.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// Close ends all readers, closes the door and the store. What was appended is
// on disk when it returns nil.
func (j *Journal) Close() error {
	j.close.Do(func() { j.closed = j.release() })
	return j.closed
}

// release undoes as much of Open as was done.
func (j *Journal) release() error {
	close(j.closing)
	var err error
	if j.reads != nil {
		j.reads.Close()
	}
	if j.writes != nil {
		j.writes.Close()
	}
	if j.server != nil {
		j.server.stop()
	}
	if j.barrier != nil {
		err = j.barrier.stop() // after the server wrote its last state
		if err == nil {
			err = j.tail.finish()
		}
	}
	return errors.Join(err, j.lock.Close())
}

func (j *Journal) isClosed() bool {
	select {
	case <-j.closing:
		return true
	default:
		return false
	}
}

func (c Config) check() error {
	switch {
	case c.Dir == "":
		return errors.New("journal: Config.Dir is empty")
	case len(c.Key) != 32:
		return fmt.Errorf("journal: Config.Key has %d bytes, it must have 32", len(c.Key))
	case c.Log == nil:
		return errors.New("journal: Config.Log is nil")
	case c.MaxBytes < 0:
		return errors.New("journal: Config.MaxBytes is negative")
	case c.Listen != nil && (c.Listen.TLS == nil || c.Listen.Authorize == nil || c.Listen.Addr == ""):
		return errors.New("journal: Config.Listen needs Addr, TLS and Authorize")
	}
	return nil
}

const leastBytes = 256 << 20

// limit is the cap of the whole store in bytes.
func (c Config) limit(fresh bool) (int64, error) {
	if c.MaxBytes > 0 {
		return c.MaxBytes, nil
	}
	free, err := freeBytes(c.Dir)
	if err != nil {
		return 0, fmt.Errorf("measure free space: %w", err)
	}
	used, err := usedBytes(c.Dir)
	if err != nil {
		return 0, fmt.Errorf("measure the journal: %w", err)
	}
	limit := (free + used) / 10 * 8
	if fresh && limit < leastBytes {
		return 0, full(fmt.Errorf("%d MiB are free, a new journal needs %d", free>>20, leastBytes/8*10>>20))
	}
	return max(limit, leastBytes), nil
}

// usedBytes adds up the files below dir.
func usedBytes(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// onlyOurs refuses a directory with anything but our lock file, what a crashed
// Create left, and what a file system puts into its root.
func onlyOurs(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read journal directory: %w", err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == lockFile, name == newDir, name == "lost+found":
		default:
			return &Fault{
				Kind:         ErrExists,
				English:      fmt.Sprintf("%s is not empty (it holds %q); open the journal that is there, or choose an empty directory", dir, name),
				JapaneseText: fmt.Sprintf("%s は空ではありません（%q があります）。そこにある記録を使うか、空のフォルダーを指定してください", dir, name),
			}
		}
	}
	return nil
}

// mark is the content of the mark file. Its MAC tells a wrong key before the
// store is touched.
func mark(key []byte) []byte {
	h := hmac.New(sha256.New, derive(key, "minato journal mark"))
	h.Write([]byte(markHead))
	return fmt.Appendf(nil, "%s%x\n", markHead, h.Sum(nil))
}

func checkMark(dir string, key []byte) error {
	got, err := os.ReadFile(filepath.Join(dir, storeDir, markFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Fault{
			Kind:         ErrMissing,
			English:      fmt.Sprintf("%s holds no journal; create one with `minato hub init`, or restore a backup", dir),
			JapaneseText: fmt.Sprintf("%s に記録（ジャーナル）がありません。`minato hub init` で作成するか、バックアップから復元してください", dir),
		}
	case err != nil:
		return fmt.Errorf("read the journal's mark: %w", err)
	}
	want := mark(key)
	switch {
	case len(got) != len(want) || !bytes.HasPrefix(got, []byte(markHead)):
		return damaged("the mark file is not one of this release", "標識ファイルがこの版のものではありません", nil)
	case !hmac.Equal(got, want):
		return &Fault{
			Kind:         ErrKey,
			English:      fmt.Sprintf("the key does not open the journal in %s; put back the key that it was created with. Nothing was changed", dir),
			JapaneseText: fmt.Sprintf("%s の記録はこの鍵では開けません。作成時の鍵を戻してください。記録は変更していません", dir),
		}
	}
	return nil
}

// derive makes one key of its own for each use of Config.Key.
func derive(key []byte, use string) []byte {
	out, err := hkdf.Key(sha256.New, key, nil, use, 32)
	if err != nil {
		panic(err) // only for lengths that are not used here
	}
	return out
}

func storeKey(key []byte) string {
	return hex.EncodeToString(derive(key, "minato journal store"))
}
