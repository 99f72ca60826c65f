package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
)

const (
	liveLane     = pb.Lane_LANE_LIVE
	exerciseLane = pb.Lane_LANE_EXERCISE
)

func newStore(t testing.TB) *store {
	t.Helper()
	return storeAt(t, filepath.Join(t.TempDir(), "node.db"))
}

func storeAt(t testing.TB, path string) *store {
	t.Helper()
	s, err := openStore(path)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func newID(t testing.TB) string {
	t.Helper()
	b := make([]byte, 16)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}

// sampleDelivery makes a report with a title and the delivery that brings it.
func sampleDelivery(t testing.TB, lane pb.Lane, sequence uint64, id, title string) (*pb.Delivery, *pb.Report) {
	t.Helper()
	r := &pb.Report{
		ReportId: id, CaseId: id, Sequence: 1, Lane: lane, Tlp: pb.TlpLabel_TLP_LABEL_AMBER_STRICT, Title: title,
		Stage: pb.Stage_STAGE_PRELIMINARY, Restrictions: &pb.Restrictions{NoCopy: true},
	}
	return wrapped(t, sequence, r), r
}

func wrapped(t testing.TB, sequence uint64, r *pb.Report) *pb.Delivery {
	t.Helper()
	payload, err := proto.Marshal(r)
	require.NoError(t, err)
	return &pb.Delivery{
		DeliverySequence: sequence, Lane: r.GetLane(), ReportId: r.GetReportId(), Envelope: &pb.Envelope{Payload: payload},
		Source: "terminal-a", SourceName: "東ターミナル", AcceptTime: timestamppb.New(time.Unix(1_800_000_000, 0)),
		Copy: &pb.Copy{Member: "terminal-b", Persons: []string{"sato"}, Named: true},
	}
}

func sampleRow(id string) outboxRow {
	return outboxRow{
		reportID: id, caseID: id, sequence: 1, lane: liveLane, label: "TLP:GREEN", title: "不審な通信", requestID: "request-" + id,
		publishTime: time.Unix(1_800_000_000, 0), report: []byte("report " + id), envelope: []byte("envelope " + id),
	}
}

// requireBilingual checks that an error for people speaks both languages.
func requireBilingual(t testing.TB, err, kind error) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	var e *storeError
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Error())
	require.NotEmpty(t, e.reason)
	require.NotZero(t, e.code)
	require.True(t, strings.ContainsFunc(e.Japanese(), func(r rune) bool { return unicode.Is(unicode.Hiragana, r) }), e.Japanese())
	require.False(t, strings.ContainsFunc(e.Error(), func(r rune) bool { return unicode.Is(unicode.Hiragana, r) }), e.Error())
}

// rowCounts counts the rows of every table, to show that nothing was left
// behind.
func rowCounts(t testing.TB, s *store) map[string]int {
	t.Helper()
	names, err := s.write.Query(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '%_words_%'`)
	require.NoError(t, err)
	var tables []string
	for names.Next() {
		var name string
		require.NoError(t, names.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(t, names.Err())
	require.NoError(t, names.Close())
	count := map[string]int{}
	for _, table := range tables {
		var n int
		require.NoError(t, s.write.QueryRow(`SELECT count(*) FROM `+table).Scan(&n))
		count[table] = n
	}
	return count
}

func TestStoreFileIsForTheOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space #1%41?.db")
	s := storeAt(t, path)
	require.NoError(t, s.setMeta(t.Context(), "k", []byte("v")))
	for _, end := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + end)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), end)
	}
	require.NoError(t, s.Close())
	_, err := os.Stat(path + "-wal")
	require.ErrorIs(t, err, os.ErrNotExist, "closing leaves one file")

	require.NoError(t, os.Chmod(path, 0o644))
	storeAt(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestEveryConnectionIsDurableAndChecked(t *testing.T) {
	s := newStore(t)
	for _, db := range []*sql.DB{s.write, s.read} {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "temp_store": "2", "busy_timeout": "10000"} {
			var have string
			require.NoError(t, db.QueryRow(`PRAGMA `+pragma).Scan(&have))
			require.Equal(t, want, have, pragma)
		}
	}
	_, err := s.read.Exec(`DELETE FROM meta`)
	require.Error(t, err, "readers cannot write")
}

func TestMetaIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	s := storeAt(t, path)
	_, ok, err := s.meta(t.Context(), "port")
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, s.setMeta(t.Context(), "port", []byte("a")))
	require.NoError(t, s.setMeta(t.Context(), "port", []byte("nagoya")))
	require.NoError(t, s.setMeta(t.Context(), "nothing", nil))
	require.NoError(t, s.Close())

	s = storeAt(t, path)
	value, ok, err := s.meta(t.Context(), "port")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "nagoya", string(value))
	value, ok, err = s.meta(t.Context(), "nothing")
	require.NoError(t, err)
	require.True(t, ok)
	require.Empty(t, value)
}

func TestPartIsStoredOnceAndReadBack(t *testing.T) {
	s := newStore(t)
	for _, size := range []int{1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 7} {
		data := make([]byte, size)
		_, _ = rand.Read(data)
		for _, r := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data))} {
			meta := &pb.Part{Name: "記録.log", MediaType: "text/plain", Class: pb.DisclosureClass_DISCLOSURE_CLASS_CONTEXT}
			part, err := s.addPart(t.Context(), meta, r, int64(size))
			require.NoError(t, err)
			sum := sha256.Sum256(data)
			require.Equal(t, sum[:], part.GetDigest())
			require.Equal(t, uint64(size), part.GetSize())
			require.Equal(t, "記録.log", part.GetName())
			require.Empty(t, meta.GetDigest(), "the caller's message is not changed")
		}
		sum := sha256.Sum256(data)
		there, err := s.hasPart(t.Context(), sum[:])
		require.NoError(t, err)
		require.True(t, there)
		in, err := s.partReader(t.Context(), sum[:])
		require.NoError(t, err)
		require.NoError(t, iotest.TestReader(in, data))
		require.NoError(t, in.Close())
	}
	require.Equal(t, 5, rowCounts(t, s)["parts"])
	require.Equal(t, 1+1+1+2+4, rowCounts(t, s)["chunks"])
	_, err := s.partReader(t.Context(), make([]byte, 32))
	requireBilingual(t, err, errNotFound)
}

func TestPartThatFailsLeavesNothing(t *testing.T) {
	s := newStore(t)
	big := bytes.Repeat([]byte("x"), 2*chunkSize+1)
	meta := &pb.Part{Name: "big.bin"}

	_, err := s.addPart(t.Context(), meta, bytes.NewReader(big), 2*chunkSize)
	requireBilingual(t, err, errTooLarge)
	require.Contains(t, err.Error(), "big.bin")

	broken := errors.New("cable pulled")
	_, err = s.addPart(t.Context(), meta, io.MultiReader(bytes.NewReader(big), iotest.ErrReader(broken)), 1<<30)
	require.ErrorIs(t, err, broken)

	_, err = s.addPart(t.Context(), meta, bytes.NewReader(nil), 10)
	requireBilingual(t, err, errInvalid)

	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.addPart(ctx, meta, io.MultiReader(bytes.NewReader(big), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }), bytes.NewReader(big)), 1<<30)
	require.ErrorIs(t, err, context.Canceled)

	require.Zero(t, rowCounts(t, s)["parts"])
	require.Zero(t, rowCounts(t, s)["chunks"])
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) {
	n, err := f(p)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, err
}

func TestOnlyUnusedPartsAreDropped(t *testing.T) {
	s := newStore(t)
	add := func(text string) *pb.Part {
		p, err := s.addPart(t.Context(), &pb.Part{Name: text}, strings.NewReader(text), 100)
		require.NoError(t, err)
		return p
	}
	s.now = func() time.Time { return time.Unix(1000, 0) }
	published, received, drilled, unused, again := add("published"), add("received"), add("drilled"), add("unused"), add("again")
	row := sampleRow(newID(t))
	row.parts = [][]byte{published.GetDigest(), published.GetDigest()}
	require.NoError(t, s.publish(t.Context(), row))
	d, r := sampleDelivery(t, liveLane, 1, newID(t), "a")
	_, err := s.receive(t.Context(), liveLane, d, r, []*pb.Part{received}, nil)
	require.NoError(t, err)
	d, r = sampleDelivery(t, exerciseLane, 1, newID(t), "a")
	_, err = s.receive(t.Context(), exerciseLane, d, r, []*pb.Part{drilled}, nil)
	require.NoError(t, err)
	s.now = func() time.Time { return time.Unix(2000, 0) }
	add("again")

	n, err := s.dropUnusedParts(t.Context(), time.Unix(1500, 0))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	for part, want := range map[*pb.Part]bool{published: true, received: true, drilled: true, unused: false, again: true} {
		there, err := s.hasPart(t.Context(), part.GetDigest())
		require.NoError(t, err)
		require.Equal(t, want, there, part.GetName())
	}
	got, err := s.outboxRow(t.Context(), row.reportID)
	require.NoError(t, err)
	require.Equal(t, [][]byte{published.GetDigest()}, got.parts)
}

func TestPublishedReportIsKeptAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	s := storeAt(t, path)
	row := sampleRow(newID(t))
	require.NoError(t, s.publish(t.Context(), row))
	require.NoError(t, s.Close())

	s = storeAt(t, path)
	got, ok, err := s.nextQueued(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	got.publishTime, row.publishTime = got.publishTime.UTC(), row.publishTime.UTC()
	require.Equal(t, row, got)
	item, err := s.outboxItem(t.Context(), row.reportID[:6])
	require.NoError(t, err)
	require.True(t, proto.Equal(&pb.OutboxItem{
		Report: row.reportID, Case: row.caseID, Seq: 1, Tlp: "TLP:GREEN", Title: "不審な通信", Lane: liveLane,
		State: pb.OutboxState_OUTBOX_STATE_QUEUED, PublishTime: timestamppb.New(row.publishTime),
	}, item), item)
}

func TestPublishRefusesWhatIsThere(t *testing.T) {
	s := newStore(t)
	first := sampleRow(newID(t))
	require.NoError(t, s.publish(t.Context(), first))

	other := sampleRow(newID(t))
	other.requestID = first.requestID
	requireBilingual(t, s.publish(t.Context(), other), errDuplicate)
	other = sampleRow(newID(t))
	other.caseID = first.caseID
	requireBilingual(t, s.publish(t.Context(), other), errDuplicate)
	other = sampleRow(first.reportID)
	other.caseID, other.requestID = newID(t), "other"
	requireBilingual(t, s.publish(t.Context(), other), errDuplicate)
	other = sampleRow("NOT-AN-ID")
	requireBilingual(t, s.publish(t.Context(), other), errInvalid)
	other = sampleRow(newID(t))
	other.parts = [][]byte{make([]byte, 32)}
	requireBilingual(t, s.publish(t.Context(), other), errNotFound)
	require.Equal(t, 1, rowCounts(t, s)["outbox"])
}

func TestOutboxStatesGoOneWay(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	accepted, refused := sampleRow(newID(t)), sampleRow(newID(t))
	require.NoError(t, s.publish(ctx, accepted))
	require.NoError(t, s.publish(ctx, refused))
	plan := &pb.Plan{DirectoryRevision: 7, Copies: []*pb.Copy{{Member: "mlit"}}}
	at := time.Unix(1_800_000_100, 0)
	require.NoError(t, s.markAccepted(ctx, accepted.reportID, []byte("receipt"), plan, at))
	require.NoError(t, s.markAccepted(ctx, accepted.reportID, []byte("other"), nil, at.Add(time.Hour)), "again is fine")
	refusal := &pb.RefusalInfo{Code: 9, Reason: "TLP_MISSING", Violations: []*pb.ViolationInfo{{Field: "tlp"}}}
	require.NoError(t, s.markRefused(ctx, refused.reportID, refusal))
	requireBilingual(t, s.markRefused(ctx, accepted.reportID, refusal), errState)
	requireBilingual(t, s.markAccepted(ctx, refused.reportID, nil, plan, at), errState)
	requireBilingual(t, s.markDelayed(ctx, refused.reportID, "", at), errState)
	requireBilingual(t, s.markDelayed(ctx, newID(t), "", at), errNotFound)

	item, err := s.outboxItem(ctx, accepted.reportID)
	require.NoError(t, err)
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState())
	require.True(t, proto.Equal(plan, item.GetPlan()))
	require.True(t, at.Equal(item.GetAcceptTime().AsTime()))
	row, err := s.outboxRow(ctx, accepted.reportID)
	require.NoError(t, err)
	require.Equal(t, "receipt", string(row.receipt))
	item, err = s.outboxItem(ctx, refused.reportID)
	require.NoError(t, err)
	require.True(t, proto.Equal(refusal, item.GetRefusal()))
	_, ok, err := s.nextQueued(ctx)
	require.NoError(t, err)
	require.False(t, ok)
	c, err := s.counts(ctx)
	require.NoError(t, err)
	require.Equal(t, storeCounts{accepted: 1, refused: 1}, c)
}

func TestDelayedReportWaitsAndDoesNotBlockOtherCases(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	now := time.Unix(1_800_000_000, 0)
	s.now = func() time.Time { return now }
	_, ok, err := s.nextRetry(ctx)
	require.NoError(t, err)
	require.False(t, ok)

	first, second, other := sampleRow(newID(t)), sampleRow(newID(t)), sampleRow(newID(t))
	second.caseID = first.caseID
	second.sequence, err = s.nextSequence(ctx, first.caseID)
	require.NoError(t, err)
	require.Equal(t, uint32(1), second.sequence)
	require.NoError(t, s.publish(ctx, first))
	second.sequence, err = s.nextSequence(ctx, first.caseID)
	require.NoError(t, err)
	require.Equal(t, uint32(2), second.sequence)
	require.NoError(t, s.publish(ctx, second))
	require.NoError(t, s.publish(ctx, other))

	next := func() string {
		r, ok, err := s.nextQueued(ctx)
		require.NoError(t, err)
		if !ok {
			return ""
		}
		return r.reportID
	}
	require.Equal(t, first.reportID, next())
	retry := now.Add(time.Minute)
	require.NoError(t, s.markDelayed(ctx, first.reportID, "connection refused", retry))
	require.Equal(t, other.reportID, next(), "the second report of the case waits for the first")
	require.NoError(t, s.markDelayed(ctx, other.reportID, "connection refused", retry.Add(time.Minute)))
	require.Empty(t, next())
	at, ok, err := s.nextRetry(ctx)
	require.NoError(t, err)
	require.True(t, ok)
	require.True(t, retry.Equal(at))

	now = retry
	require.Equal(t, first.reportID, next())
	r, err := s.outboxRow(ctx, first.reportID)
	require.NoError(t, err)
	require.Equal(t, 1, r.tries)
	item, err := s.outboxItem(ctx, first.reportID)
	require.NoError(t, err)
	require.Equal(t, "connection refused", item.GetDelayReason())
	require.NoError(t, s.markAccepted(ctx, first.reportID, nil, nil, now))
	require.Equal(t, second.reportID, next())
	require.NoError(t, s.markAccepted(ctx, second.reportID, nil, nil, now))
	require.Empty(t, next())
	require.NoError(t, s.retryNow(ctx))
	require.Equal(t, other.reportID, next())
}

func TestOutboxPagesNewestFirstWithoutGapOrRepeat(t *testing.T) {
	s := newStore(t)
	var want []string
	for range 7 {
		row := sampleRow(newID(t))
		require.NoError(t, s.publish(t.Context(), row))
		want = append([]string{row.reportID}, want...)
	}
	var got []string
	for token, page := "", 0; page == 0 || token != ""; page++ {
		items, next, err := s.listOutbox(t.Context(), 3, token)
		require.NoError(t, err)
		require.LessOrEqual(t, len(items), 3)
		for _, item := range items {
			got = append(got, item.GetReport())
		}
		// What is published meanwhile does not move the pages.
		require.NoError(t, s.publish(t.Context(), sampleRow(newID(t))))
		token = next
	}
	require.Equal(t, want, got)
	for _, bad := range []string{"x", "-1", "0", "1 OR 1", "9999999999999999999999"} {
		_, _, err := s.listOutbox(t.Context(), 3, bad)
		requireBilingual(t, err, errInvalid)
	}
}

func TestReceivedReportIsKeptAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	s := storeAt(t, path)
	ctx := t.Context()
	part, err := s.addPart(ctx, &pb.Part{Name: "ioc.json"}, strings.NewReader("{}"), 10)
	require.NoError(t, err)
	d, r := sampleDelivery(t, liveLane, 12, newID(t), "ランサムウェア")
	r.Summary = "端末3台"
	isNew, err := s.receive(ctx, liveLane, d, r, []*pb.Part{part}, nil)
	require.NoError(t, err)
	require.True(t, isNew)
	require.NoError(t, s.Close())

	s = storeAt(t, path)
	item, err := s.item(ctx, liveLane, strings.ToUpper(r.GetReportId()[:6]))
	require.NoError(t, err)
	require.NotNil(t, item.GetStoreTime())
	item.StoreTime = nil
	require.True(t, proto.Equal(&pb.InboxItem{
		Report: r.GetReportId(), Case: r.GetCaseId(), Seq: 1, Tlp: "TLP:AMBER+STRICT", Title: "ランサムウェア", Text: "端末3台",
		Source: "terminal-a", SourceName: "東ターミナル", Lane: liveLane, Persons: []string{"sato"}, AcceptTime: d.GetAcceptTime(),
		Restrictions: r.GetRestrictions(), Stage: r.GetStage(), Parts: []*pb.Part{part}, Named: true,
	}, item), item)
	gotReport, gotDelivery, err := s.reportOf(ctx, liveLane, r.GetReportId())
	require.NoError(t, err)
	require.True(t, proto.Equal(d, gotDelivery))
	r.Summary = ""
	require.True(t, proto.Equal(r, gotReport), "the report is read from the signed bytes")
	last, err := s.lastDelivery(ctx, liveLane)
	require.NoError(t, err)
	require.Equal(t, uint64(12), last)
}

func TestReportReceivedAgainIsShownOnce(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	d, r := sampleDelivery(t, liveLane, 1, newID(t), "最初の件名")
	isNew, err := s.receive(ctx, liveLane, d, r, nil, nil)
	require.NoError(t, err)
	require.True(t, isNew)
	_, err = s.react(ctx, liveLane, r.GetReportId(), pb.Reaction_REACTION_AFFECTED, "sato", time.Now(), []byte("e"))
	require.NoError(t, err)

	d2, r2 := sampleDelivery(t, liveLane, 2, r.GetReportId(), "別の件名")
	isNew, err = s.receive(ctx, liveLane, d2, r2, nil, nil)
	require.NoError(t, err)
	require.False(t, isNew)
	rows, err := s.list(ctx, liveLane, 0, 0)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.Equal(t, "最初の件名", rows[0].item.GetTitle())
	require.Equal(t, pb.Reaction_REACTION_AFFECTED, rows[0].item.GetReaction())
	items, _, err := s.search(ctx, liveLane, "別の", 0, "")
	require.NoError(t, err)
	require.Empty(t, items)
	last, err := s.lastDelivery(ctx, liveLane)
	require.NoError(t, err)
	require.Equal(t, uint64(2), last, "the place in the stream is seen all the same")
	isNew, err = s.receive(ctx, liveLane, d, r, nil, nil)
	require.NoError(t, err)
	require.False(t, isNew)
	last, err = s.lastDelivery(ctx, liveLane)
	require.NoError(t, err)
	require.Equal(t, uint64(2), last, "the mark never goes back")
}

func TestRejectedDeliveryMovesTheMarkAndAnswers(t *testing.T) {
	s := newStore(t)
	d, _ := sampleDelivery(t, exerciseLane, 9, newID(t), "a")
	require.NoError(t, s.reject(t.Context(), exerciseLane, d, []byte("rejected")))
	last, err := s.lastDelivery(t.Context(), exerciseLane)
	require.NoError(t, err)
	require.Equal(t, uint64(9), last)
	out, ok, err := s.nextReceipt(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, receiptOut{id: 1, lane: exerciseLane, reportID: d.GetReportId(), envelope: []byte("rejected")}, out)
	rows, err := s.list(t.Context(), exerciseLane, 0, 0)
	require.NoError(t, err)
	require.Empty(t, rows)
}

func TestInboxFollowsFromARow(t *testing.T) {
	s := newStore(t)
	var want, got []string
	for i := range 5 {
		d, r := sampleDelivery(t, liveLane, uint64(i+1), newID(t), "a")
		_, err := s.receive(t.Context(), liveLane, d, r, nil, nil)
		require.NoError(t, err)
		want = append(want, r.GetReportId())
	}
	after := int64(0)
	for {
		rows, err := s.list(t.Context(), liveLane, after, 2)
		require.NoError(t, err)
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			require.Greater(t, r.row, after)
			after = r.row
			got = append(got, r.item.GetReport())
		}
	}
	require.Equal(t, want, got)
}

func TestReactionsQueueTheirReceiptsInOrder(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	d, r := sampleDelivery(t, liveLane, 1, newID(t), "a")
	_, err := s.receive(ctx, liveLane, d, r, nil, nil)
	require.NoError(t, err)
	_, err = s.react(ctx, liveLane, newID(t), pb.Reaction_REACTION_SEEN, "sato", time.Now(), []byte("x"))
	requireBilingual(t, err, errNotFound)
	c, err := s.counts(ctx)
	require.NoError(t, err)
	require.Equal(t, storeCounts{received: 1, unacknowledged: 1}, c)

	first, err := s.react(ctx, liveLane, r.GetReportId(), pb.Reaction_REACTION_SEEN, "sato", time.Now(), []byte("1"))
	require.NoError(t, err)
	second, err := s.react(ctx, liveLane, r.GetReportId(), pb.Reaction_REACTION_HANDLED, "sato", time.Now(), []byte("2"))
	require.NoError(t, err)
	item, err := s.item(ctx, liveLane, r.GetReportId())
	require.NoError(t, err)
	require.Equal(t, pb.Reaction_REACTION_HANDLED, item.GetReaction())
	c, err = s.counts(ctx)
	require.NoError(t, err)
	require.Equal(t, storeCounts{received: 1, receipts: 2}, c)

	for i, id := range []int64{first, second} {
		out, ok, err := s.nextReceipt(ctx)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, receiptOut{id: id, lane: liveLane, reportID: r.GetReportId(), envelope: []byte{byte('1' + i)}}, out)
		waits, err := s.receiptWaits(ctx, id)
		require.NoError(t, err)
		require.True(t, waits)
		require.NoError(t, s.markReceiptSent(ctx, id))
		require.NoError(t, s.markReceiptSent(ctx, id))
		waits, err = s.receiptWaits(ctx, id)
		require.NoError(t, err)
		require.False(t, waits)
	}
	_, ok, err := s.nextReceipt(ctx)
	require.NoError(t, err)
	require.False(t, ok)
}

func TestStartOfAnIDIsEnoughWhenItIsUnique(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	one, two := "abcdef00"+strings.Repeat("0", 24), "abcdef01"+strings.Repeat("0", 24)
	for i, id := range []string{one, two} {
		d, r := sampleDelivery(t, liveLane, uint64(i+1), id, "a")
		_, err := s.receive(ctx, liveLane, d, r, nil, nil)
		require.NoError(t, err)
	}
	row := sampleRow(one)
	require.NoError(t, s.publish(ctx, row))
	own := sampleRow("abcdee" + strings.Repeat("0", 26))
	require.NoError(t, s.publish(ctx, own))

	for prefix, want := range map[string]error{
		"abcdef": errAmbiguous, "ABCDEF0": errAmbiguous, "abcdef1": errNotFound, "abcde": errInvalid, "": errInvalid,
		"abcdeg": errInvalid, "' OR 1=1": errInvalid, one + "0": errInvalid, "%bcdef": errInvalid, "abcdef0港": errInvalid,
	} {
		_, err := s.item(ctx, liveLane, prefix)
		requireBilingual(t, err, want)
		_, err = s.resolve(ctx, prefix)
		requireBilingual(t, err, want)
		_, _, err = s.reportOf(ctx, liveLane, prefix)
		requireBilingual(t, err, want)
	}
	item, err := s.item(ctx, liveLane, " abcdef00 ")
	require.NoError(t, err)
	require.Equal(t, one, item.GetReport())
	id, err := s.resolve(ctx, "abcdef00")
	require.NoError(t, err, "published and received here is one report")
	require.Equal(t, one, id)
	id, err = s.resolve(ctx, "abcdee")
	require.NoError(t, err)
	require.Equal(t, own.reportID, id)
	_, err = s.outboxItem(ctx, "abcdef01")
	requireBilingual(t, err, errNotFound)
}

func TestLanesNeverMix(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	id := newID(t)
	real, realReport := sampleDelivery(t, liveLane, 5, id, "実の通信障害")
	drill, drillReport := sampleDelivery(t, exerciseLane, 3, id, "訓練の通信障害 203.0.113.7")
	for _, x := range []struct {
		d *pb.Delivery
		r *pb.Report
	}{{real, realReport}, {drill, drillReport}} {
		isNew, err := s.receive(ctx, x.d.GetLane(), x.d, x.r, nil, nil)
		require.NoError(t, err)
		require.True(t, isNew, "the same id in both lanes is two reports")
	}
	_, err := s.react(ctx, exerciseLane, id, pb.Reaction_REACTION_AFFECTED, "sato", time.Now(), []byte("e"))
	require.NoError(t, err)

	for lane, want := range map[pb.Lane]struct {
		title    string
		last     uint64
		reaction pb.Reaction
	}{liveLane: {"実の通信障害", 5, 0}, exerciseLane: {"訓練の通信障害 203.0.113.7", 3, pb.Reaction_REACTION_AFFECTED}} {
		item, err := s.item(ctx, lane, id)
		require.NoError(t, err)
		require.Equal(t, want.title, item.GetTitle())
		require.Equal(t, lane, item.GetLane())
		require.Equal(t, want.reaction, item.GetReaction())
		rows, err := s.list(ctx, lane, 0, 0)
		require.NoError(t, err)
		require.Len(t, rows, 1)
		require.Equal(t, want.title, rows[0].item.GetTitle())
		report, d, err := s.reportOf(ctx, lane, id)
		require.NoError(t, err)
		require.Equal(t, lane, report.GetLane())
		require.Equal(t, lane, d.GetLane())
		last, err := s.lastDelivery(ctx, lane)
		require.NoError(t, err)
		require.Equal(t, want.last, last)
		items, _, err := s.search(ctx, lane, "通信障害", 0, "")
		require.NoError(t, err)
		require.Len(t, items, 1)
		require.Equal(t, lane, items[0].GetLane())
	}
	items, _, err := s.search(ctx, liveLane, "訓練", 0, "")
	require.NoError(t, err)
	require.Empty(t, items)
	items, _, err = s.search(ctx, liveLane, "203.0.113.7", 0, "")
	require.NoError(t, err)
	require.Empty(t, items)
	c, err := s.counts(ctx)
	require.NoError(t, err)
	require.Equal(t, storeCounts{received: 1, unacknowledged: 1, exercises: 1, receipts: 1}, c)
}

func TestAReportOfTheOtherLaneIsNotStored(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	empty := rowCounts(t, s)
	d, r := sampleDelivery(t, exerciseLane, 1, newID(t), "a")
	_, err := s.receive(ctx, liveLane, d, r, nil, nil)
	requireBilingual(t, err, errInvalid)
	d.Lane = liveLane
	_, err = s.receive(ctx, liveLane, d, r, nil, nil)
	requireBilingual(t, err, errInvalid)
	_, err = s.receive(ctx, exerciseLane, d, r, nil, nil)
	requireBilingual(t, err, errInvalid)
	require.Equal(t, empty, rowCounts(t, s))
}

func TestNoOtherLaneThanTheTwo(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	for _, lane := range []pb.Lane{pb.Lane_LANE_UNSPECIFIED, 3, -1} {
		d, r := sampleDelivery(t, lane, 1, newID(t), "a")
		row := sampleRow(newID(t))
		row.lane = lane
		_, receiveErr := s.receive(ctx, lane, d, r, nil, nil)
		_, lastErr := s.lastDelivery(ctx, lane)
		_, listErr := s.list(ctx, lane, 0, 0)
		_, itemErr := s.item(ctx, lane, r.GetReportId())
		_, _, reportErr := s.reportOf(ctx, lane, r.GetReportId())
		_, reactErr := s.react(ctx, lane, r.GetReportId(), 1, "", time.Now(), nil)
		_, _, searchErr := s.search(ctx, lane, "a", 0, "")
		for _, err := range []error{s.publish(ctx, row), s.reject(ctx, lane, d, nil), receiveErr, lastErr, listErr, itemErr, reportErr, reactErr, searchErr} {
			requireBilingual(t, err, errInvalid)
		}
	}
}

func TestLabelOfAnUnknownNumberIsEmpty(t *testing.T) {
	for number, want := range map[pb.TlpLabel]string{0: "", 1: "TLP:CLEAR", 5: "TLP:RED", 6: "", 256: "", 257: "", -255: ""} {
		require.Equal(t, want, labelOf(&pb.Report{Tlp: number}), number)
	}
}

func TestDirectoryIsReplacedAsAWhole(t *testing.T) {
	s := newStore(t)
	members, revision, err := s.directory(t.Context())
	require.NoError(t, err)
	require.Empty(t, members)
	require.Zero(t, revision)
	a, b, c := &pb.Member{Id: "a", Name: "一"}, &pb.Member{Id: "b"}, &pb.Member{Id: "c", Name: "三"}
	require.NoError(t, s.setDirectory(t.Context(), []*pb.Member{b, a}, 4))
	require.Error(t, s.setDirectory(t.Context(), []*pb.Member{c, c}, 5), "an id stands once")
	members, revision, err = s.directory(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(4), revision)
	require.Len(t, members, 2)
	require.True(t, proto.Equal(a, members[0]))
	require.NoError(t, s.setDirectory(t.Context(), []*pb.Member{c}, 6))
	members, revision, err = s.directory(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(6), revision)
	require.Len(t, members, 1)
	require.True(t, proto.Equal(c, members[0]))
}

func TestProfileStaysPendingUntilThisOneWasSent(t *testing.T) {
	s := newStore(t)
	p, pending, err := s.profile(t.Context())
	require.NoError(t, err)
	require.False(t, pending)
	require.True(t, proto.Equal(new(pb.Profile), p))
	first, second := &pb.Profile{Organisation: "甲"}, &pb.Profile{Organisation: "乙", Persons: []*pb.Person{{Id: "sato"}}}
	require.NoError(t, s.setProfile(t.Context(), first, true))
	require.NoError(t, s.setProfile(t.Context(), second, true))
	require.NoError(t, s.markProfileSent(t.Context(), first))
	p, pending, err = s.profile(t.Context())
	require.NoError(t, err)
	require.True(t, pending)
	require.True(t, proto.Equal(second, p))
	require.NoError(t, s.markProfileSent(t.Context(), second))
	_, pending, err = s.profile(t.Context())
	require.NoError(t, err)
	require.False(t, pending)
	require.NoError(t, s.setProfile(t.Context(), first, false))
	_, pending, err = s.profile(t.Context())
	require.NoError(t, err)
	require.False(t, pending)
}

func TestManyCallersAtOnce(t *testing.T) {
	s := newStore(t)
	const callers, each = 8, 20
	errs := make(chan error, 2*callers)
	for c := range callers {
		go func() {
			errs <- func() error {
				for i := range each {
					id := fmt.Sprintf("%016x%016x", c, i)
					d, r := sampleDelivery(t, liveLane, uint64(c*each+i+1), id, "並行")
					if _, err := s.receive(t.Context(), liveLane, d, r, nil, nil); err != nil {
						return err
					}
					if err := s.publish(t.Context(), sampleRow(id)); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
		go func() {
			errs <- func() error {
				for range each {
					if _, _, err := s.search(t.Context(), liveLane, "並行", 10, ""); err != nil {
						return err
					}
					if _, err := s.counts(t.Context()); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range 2 * callers {
		require.NoError(t, <-errs)
	}
	c, err := s.counts(t.Context())
	require.NoError(t, err)
	require.Equal(t, storeCounts{queued: callers * each, received: callers * each, unacknowledged: callers * each}, c)
}
