package node

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"minato.example/internal/stix"
	pb "minato.example/proto/minato/v1"
)

// storeToFill names the store that the child of TestKilledStoreKeepsWhatItAcknowledged
// fills until it is killed.
const storeToFill = "MINATO_TEST_STORE_TO_FILL"

func TestKilledStoreKeepsWhatItAcknowledged(t *testing.T) {
	if path := os.Getenv(storeToFill); path != "" {
		fillForEver(t, path)
	}
	path := filepath.Join(t.TempDir(), "node.db")
	acknowledged := map[string]bool{}
	for round := range 6 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledStoreKeepsWhatItAcknowledged$")
		child.Env = append(os.Environ(), storeToFill+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewReader(out)
		killAt := 5 + rand.IntN(40)
		for n := 0; ; n++ {
			line, err := lines.ReadString('\n')
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				require.GreaterOrEqual(t, n, killAt, "the child ended by itself: %s", line)
				break
			}
			acknowledged[strings.TrimSpace(line)] = true
			if n == killAt {
				require.NoError(t, child.Process.Kill())
			}
		}
		require.Error(t, child.Wait())
		requireAllThere(t, path, acknowledged, round)
	}
	require.Greater(t, len(acknowledged), 30)
}

// fillForEver says on stdout what the store has acknowledged.
func fillForEver(t *testing.T, path string) {
	s, err := openStore(path)
	require.NoError(t, err)
	ctx := context.Background()
	for i := 0; ; i++ {
		id, lane := newID(t), liveLane
		if i%3 == 0 {
			lane = exerciseLane
		}
		data := bytes.Repeat([]byte(id), 1+rand.IntN(9_000))
		part, err := s.addPart(ctx, &pb.Part{Name: id}, bytes.NewReader(data), 1<<30)
		require.NoError(t, err)
		fmt.Printf("part %x\n", part.GetDigest())
		row := sampleRow(id)
		row.parts = [][]byte{part.GetDigest()}
		require.NoError(t, s.publish(ctx, row))
		fmt.Printf("published %s\n", id)
		last, err := s.lastDelivery(ctx, lane)
		require.NoError(t, err)
		d, r := sampleDelivery(t, lane, last+1, id, "件名"+id)
		isNew, err := s.receive(ctx, lane, d, r, []*pb.Part{part}, []stix.Observable{{Type: pb.IndicatorType_INDICATOR_TYPE_DOMAIN, Value: id + ".example"}})
		require.NoError(t, err)
		require.True(t, isNew)
		fmt.Printf("received %s %d %d\n", id, lane, last+1)
		_, err = s.react(ctx, lane, id, pb.Reaction_REACTION_SEEN, "sato", time.Now(), []byte(id))
		require.NoError(t, err)
		fmt.Printf("reacted %s %d\n", id, lane)
		require.NoError(t, s.markAccepted(ctx, id, []byte(id), &pb.Plan{}, time.Now()))
		fmt.Printf("accepted %s\n", id)
	}
}

// requireAllThere opens the store after a kill and holds it against what was
// acknowledged; and checks that nothing is there by halves.
func requireAllThere(t *testing.T, path string, acknowledged map[string]bool, round int) {
	t.Helper()
	s, err := openStore(path)
	require.NoError(t, err, round)
	defer s.Close()
	ctx := t.Context()
	for line := range acknowledged {
		var what, id string
		var lane pb.Lane
		var sequence uint64
		_, _ = fmt.Sscan(line, &what, &id, &lane, &sequence)
		switch what {
		case "part":
			digest, err := hex.DecodeString(id)
			require.NoError(t, err)
			in, err := s.partReader(ctx, digest)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, in)
			require.NoError(t, err)
		case "published":
			row, err := s.outboxRow(ctx, id)
			require.NoError(t, err)
			require.Equal(t, "envelope "+id, string(row.envelope))
			require.Len(t, row.parts, 1)
		case "received":
			_, _, err := s.reportOf(ctx, lane, id)
			require.NoError(t, err)
			last, err := s.lastDelivery(ctx, lane)
			require.NoError(t, err)
			require.GreaterOrEqual(t, last, sequence)
			for _, query := range []string{"件名" + id[:9], id + "[.]example"} {
				items, _, err := s.search(ctx, lane, query, 0, "")
				require.NoError(t, err)
				require.Len(t, items, 1, query)
			}
		case "reacted":
			item, err := s.item(ctx, lane, id)
			require.NoError(t, err)
			require.Equal(t, pb.Reaction_REACTION_SEEN, item.GetReaction())
		case "accepted":
			item, err := s.outboxItem(ctx, id)
			require.NoError(t, err)
			require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState())
		default:
			require.Fail(t, "unexpected line", line)
		}
	}
	for _, lane := range []pb.Lane{liveLane, exerciseLane} {
		inbox, err := tablesOf(lane)
		require.NoError(t, err)
		var reports, words, indicators, high, cut, reactions, receipts int
		require.NoError(t, s.read.QueryRow(inLane(inbox, `SELECT (SELECT count(*) FROM {inbox}), (SELECT count(*) FROM {inbox}_words),
			(SELECT count(DISTINCT row) FROM {inbox}_indicators), (SELECT coalesce(max(delivery_sequence), 0) FROM {inbox}), (SELECT count(*) FROM parts WHERE digest IS NULL),
			(SELECT count(*) FROM {inbox} WHERE reaction > 0), (SELECT count(*) FROM receipts_out WHERE lane = ?)`), lane).
			Scan(&reports, &words, &indicators, &high, &cut, &reactions, &receipts))
		require.Equal(t, reports, words)
		require.Equal(t, reports, indicators)
		require.Equal(t, reports, high)
		require.Equal(t, reactions, receipts)
		require.Zero(t, cut)
	}
}

func TestFailureInTheMiddleLeavesNothing(t *testing.T) {
	full := func(t *testing.T, s *store) (*pb.Delivery, *pb.Report, []*pb.Part) {
		part, err := s.addPart(t.Context(), &pb.Part{Name: "a"}, strings.NewReader("a"), 10)
		require.NoError(t, err)
		d, r := sampleDelivery(t, liveLane, 1, newID(t), "件名 evil.example")
		return d, r, []*pb.Part{part}
	}
	for _, table := range []string{"delivery_marks", "inbox_live", "inbox_live_parts", "inbox_live_indicators"} {
		t.Run("receive fails at "+table, func(t *testing.T) {
			s := newStore(t)
			d, r, parts := full(t, s)
			was := rowCounts(t, s)
			_, err := s.write.Exec(`CREATE TEMP TRIGGER fail AFTER INSERT ON main.` + table + ` BEGIN SELECT RAISE(ABORT, 'fault'); END`)
			require.NoError(t, err)
			isNew, err := s.receive(t.Context(), liveLane, d, r, parts, nil)
			require.ErrorContains(t, err, "fault")
			require.False(t, isNew)
			require.Equal(t, was, rowCounts(t, s))
			_, err = s.write.Exec(`DROP TRIGGER temp.fail`)
			require.NoError(t, err)
			isNew, err = s.receive(t.Context(), liveLane, d, r, parts, nil)
			require.NoError(t, err)
			require.True(t, isNew, "the same delivery can be received afterwards")
			items, _, err := s.search(t.Context(), liveLane, "件名", 0, "")
			require.NoError(t, err)
			require.Len(t, items, 1)
		})
	}
	t.Run("receive fails at a part that is missing", func(t *testing.T) {
		s := newStore(t)
		d, r, parts := full(t, s)
		was := rowCounts(t, s)
		_, err := s.receive(t.Context(), liveLane, d, r, append(parts, &pb.Part{Digest: make([]byte, 32)}), nil)
		requireBilingual(t, err, errNotFound)
		require.Equal(t, was, rowCounts(t, s))
	})
	t.Run("react fails at its receipt", func(t *testing.T) {
		s := newStore(t)
		d, r, parts := full(t, s)
		_, err := s.receive(t.Context(), liveLane, d, r, parts, nil)
		require.NoError(t, err)
		_, err = s.write.Exec(`CREATE TEMP TRIGGER fail AFTER INSERT ON main.receipts_out BEGIN SELECT RAISE(ABORT, 'fault'); END`)
		require.NoError(t, err)
		_, err = s.react(t.Context(), liveLane, r.GetReportId(), pb.Reaction_REACTION_SEEN, "sato", time.Now(), []byte("e"))
		require.ErrorContains(t, err, "fault")
		item, err := s.item(t.Context(), liveLane, r.GetReportId())
		require.NoError(t, err)
		require.Zero(t, item.GetReaction())
	})
}

func TestCancelledCallWritesNothing(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.publish(ctx, sampleRow(newID(t))), context.Canceled)
	require.Zero(t, rowCounts(t, s)["outbox"])
}

func TestFullDiskLosesNothingAndSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	s := storeAt(t, path)
	ctx := t.Context()
	kept := sampleRow(newID(t))
	require.NoError(t, s.publish(ctx, kept))
	var pages int
	require.NoError(t, s.write.QueryRow(`PRAGMA page_count`).Scan(&pages))
	_, err := s.write.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+20))
	require.NoError(t, err)

	var stored []string
	var full error
	for i := 0; full == nil; i++ {
		d, r := sampleDelivery(t, liveLane, uint64(i+1), newID(t), fmt.Sprintf("件名%d", i))
		r.Summary = strings.Repeat(newID(t), 20)
		var isNew bool
		if isNew, full = s.receive(ctx, liveLane, d, r, nil, nil); full == nil {
			stored = append(stored, r.GetReportId())
		} else {
			require.False(t, isNew)
		}
	}
	requireBilingual(t, full, errDiskFull)
	require.Contains(t, full.Error(), path)
	was := rowCounts(t, s)
	_, err = s.addPart(ctx, &pb.Part{Name: "a"}, bytes.NewReader(make([]byte, 3*chunkSize)), 1<<30)
	requireBilingual(t, err, errDiskFull)
	big := sampleRow(newID(t))
	big.report = make([]byte, 1<<20)
	requireBilingual(t, s.publish(ctx, big), errDiskFull)
	require.Equal(t, was, rowCounts(t, s))

	_, err = s.write.Exec(`PRAGMA max_page_count = 1000000`)
	require.NoError(t, err)
	require.NoError(t, s.publish(ctx, big), "it goes on when there is room")
	require.NoError(t, s.Close())
	s = storeAt(t, path)
	_, err = s.outboxRow(ctx, kept.reportID)
	require.NoError(t, err)
	for _, id := range stored {
		_, _, err := s.reportOf(ctx, liveLane, id)
		require.NoError(t, err)
	}
	rows, err := s.list(ctx, liveLane, 0, 500)
	require.NoError(t, err)
	require.Len(t, rows, len(stored))
}

func TestNewerStoreIsRefusedAndLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	s := storeAt(t, path)
	_, err := s.write.Exec(fmt.Sprintf(`PRAGMA user_version = %d`, len(migrations)+1))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	was, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = openStore(path)
	requireBilingual(t, err, errNewerStore)
	require.Contains(t, err.Error(), path)
	is, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(was, is))
}

func TestForeignFileIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for name, write := range map[string]func(path string) error{
		"text":  func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("hello "), 10_000), 0o600) },
		"short": func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"another program's database": func(path string) error {
			db, err := sql.Open("sqlite", path)
			if err != nil {
				return err
			}
			_, err = db.Exec(`CREATE TABLE t (x)`)
			return errors.Join(err, db.Close())
		},
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			require.NoError(t, write(path))
			was, readErr := os.ReadFile(path)
			_, err := openStore(path)
			requireBilingual(t, err, errForeign)
			require.Contains(t, err.Error(), path)
			if readErr == nil {
				is, err := os.ReadFile(path)
				require.NoError(t, err)
				require.True(t, bytes.Equal(was, is))
			}
		})
	}
}

func TestEmptyOrLeftoverFilesAreNotTakenForANewStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := openStore(path)
	requireBilingual(t, err, errDamaged)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path+"-wal", []byte("old"), 0o600))
	_, err = openStore(path)
	requireBilingual(t, err, errDamaged)
	require.NoFileExists(t, path)
	require.NoError(t, os.Remove(path+"-wal"))
	require.NoError(t, os.WriteFile(path+".new", []byte("cut off by a crash"), 0o600))
	storeAt(t, path)
	require.NoFileExists(t, path+".new")
}

// TestDamageIsFoundAndNeverServed damages a filled store in every page and at
// every kind of place. Either the store does not open, or every read gives the
// right bytes or says that the store is damaged.
func TestDamageIsFoundAndNeverServed(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "node.db")
	s := storeAt(t, whole)
	ctx := t.Context()
	data := make([]byte, chunkSize/4)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	part, err := s.addPart(ctx, &pb.Part{Name: "a"}, bytes.NewReader(data), 1<<30)
	require.NoError(t, err)
	ids := map[string]bool{}
	for i := range 25 {
		d, r := sampleDelivery(t, liveLane, uint64(i+1), newID(t), "件名 "+strings.Repeat("evil.example ", 30))
		_, err := s.receive(ctx, liveLane, d, r, []*pb.Part{part}, nil)
		require.NoError(t, err)
		ids[r.GetReportId()] = true
	}
	row := sampleRow(newID(t))
	require.NoError(t, s.publish(ctx, row))
	require.NoError(t, s.Close())
	good, err := os.ReadFile(whole)
	require.NoError(t, err)

	refused, readFailed, harmless := 0, 0, 0
	try := func(what string, bad []byte) error {
		path := filepath.Join(t.TempDir(), "node.db")
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		s, err := openStore(path)
		if err != nil {
			require.True(t, errors.Is(err, errDamaged) || errors.Is(err, errForeign) || errors.Is(err, errNewerStore), "%s: %v", what, err)
			requireBilingual(t, err, err)
			require.Contains(t, err.Error(), path)
			is, readErr := os.ReadFile(path)
			require.NoError(t, readErr)
			require.True(t, bytes.Equal(bad, is), "%s: a refused file stays as it is", what)
			refused++
			return err
		}
		defer s.Close()
		fail := func(e error) {
			if e != nil && !errors.Is(e, errNotFound) {
				require.ErrorIs(t, e, errDamaged, what)
				err = e
			}
		}
		rows, e := s.list(ctx, liveLane, 0, 500)
		fail(e)
		for _, r := range rows {
			require.True(t, ids[r.item.GetReport()], what)
			require.True(t, strings.HasPrefix(r.item.GetTitle(), "件名 evil.example "), what)
		}
		for id := range ids {
			report, _, e := s.reportOf(ctx, liveLane, id)
			fail(e)
			if e == nil {
				require.Equal(t, id, report.GetReportId(), what)
			}
		}
		out, e := s.outboxRow(ctx, row.reportID)
		fail(e)
		if e == nil {
			require.Equal(t, row.envelope, out.envelope, what)
		}
		if in, e := s.partReader(ctx, part.GetDigest()); e != nil {
			fail(e)
		} else {
			got, e := io.ReadAll(in)
			fail(e)
			require.True(t, bytes.HasPrefix(data, got), what)
			require.True(t, e != nil || len(got) == len(data), what)
		}
		if err != nil {
			readFailed++
		} else {
			harmless++
		}
		return err
	}
	const page = 4096
	require.NoError(t, try("undamaged", good))
	requireBilingual(t, try("header", append([]byte("SQLite format 4\x00"), good[16:]...)), errForeign)
	for size := range 10 {
		cut := good[:len(good)*size/10]
		require.Error(t, try(fmt.Sprintf("cut to %d", len(cut)), cut))
	}
	require.Error(t, try("last byte cut", good[:len(good)-1]))
	for at := 0; at < len(good); at += page {
		bad := bytes.Clone(good)
		clear(bad[at : at+page])
		if bytes.Equal(bad, good) {
			continue
		}
		require.Error(t, try(fmt.Sprintf("page %d zeroed", at/page+1), bad))
	}
	for range 100 {
		bad := bytes.Clone(good)
		bit := rand.IntN(8 * len(bad))
		bad[bit/8] ^= 1 << (bit % 8)
		// A bit in unused space does no harm; what matters is asserted in try.
		_ = try(fmt.Sprintf("bit %d flipped", bit), bad)
	}
	t.Logf("%d refused at the start, %d found on reading, %d without effect", refused, readFailed, harmless)
}

func TestErrorsOfSQLiteKeepTheirMeaning(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.failed(nil))
	plain := errors.New("plain")
	require.Equal(t, plain, s.failed(plain))
	_, err := s.write.Exec(`PRAGMA query_only = 1`)
	require.NoError(t, err)
	requireBilingual(t, s.setMeta(t.Context(), "a", nil), errDisk)
}
