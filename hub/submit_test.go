package hub

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/journal"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// encoded marshals what must marshal.
func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return data
}

// accepts verifies a receipt with the hub's key and opens it.
func (h *testHub) accepts(env *pb.Envelope) *pb.SubmitReceipt {
	h.t.Helper()
	payload, err := seal.Verify(env, seal.SubmitReceiptType, h.key.Public().(ed25519.PublicKey))
	require.NoError(h.t, err)
	r := new(pb.SubmitReceipt)
	require.NoError(h.t, proto.Unmarshal(payload, r))
	return r
}

// stored is every accepted report of a lane, in the journal's order.
func (h *testHub) stored(lane pb.Lane) (all []*pb.ReportAccepted) {
	h.t.Helper()
	s := h.lanes[lane].reports
	last, err := h.journal.Position(context.Background(), s)
	require.NoError(h.t, err)
	require.NoError(h.t, h.journal.ReadTo(context.Background(), s, 0, last, func(r journal.Record) error {
		a, _, err := decoded(r)
		if a != nil {
			all = append(all, a)
		}
		return err
	}))
	return all
}

func TestAReceiptPromisesTheReportAndItsPlan(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR)
	r := firstReport("b")
	preview, err := a.hub.PlanReport(context.Background(), &pb.PlanReportRequest{Report: r})
	require.NoError(t, err)
	require.Empty(t, h.stored(pb.Lane_LANE_LIVE), "a preview stores nothing")
	env, err := a.submit(r, newID())
	require.NoError(t, err)
	receipt := h.accepts(env)
	digest := sha256.Sum256(h.stored(pb.Lane_LANE_LIVE)[0].GetEnvelope().GetPayload())
	require.Equal(t, r.GetReportId(), receipt.GetReportId())
	require.Equal(t, r.GetCaseId(), receipt.GetCaseId())
	require.Equal(t, uint32(1), receipt.GetSequence())
	require.Equal(t, pb.Lane_LANE_LIVE, receipt.GetLane())
	require.Equal(t, digest[:], receipt.GetPayloadDigest())
	require.Equal(t, "testport", receipt.GetPortId())
	preview.Plan.DecideTime = receipt.GetPlan().GetDecideTime() // all but the instant
	require.True(t, proto.Equal(preview.GetPlan(), receipt.GetPlan()), "the preview is the gate")
	require.WithinDuration(t, time.Now(), receipt.GetAcceptTime().AsTime(), time.Minute)
}

func TestTheSameReportGetsTheSameReceiptAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR)
	r, request := firstReport("b"), newID()
	first, err := a.submit(r, request)
	require.NoError(t, err)
	again := func(request string) {
		t.Helper()
		env, err := a.submit(r, request)
		require.NoError(t, err)
		require.Equal(t, encoded(t, first), encoded(t, env))
	}
	again(request)
	again(newID())
	h.restart(nil)
	a.dial()
	again(request)
	again(newID())
	require.Len(t, h.stored(pb.Lane_LANE_LIVE), 1)
}

func TestAnIdIsNeverUsedForAnotherReport(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	r, request := firstReport("b"), newID()
	_, err := a.submit(r, request)
	require.NoError(t, err)
	check := func() {
		t.Helper()
		other := proto.CloneOf(r)
		other.Title = "別の件名"
		_, err := a.submit(other, request)
		require.Equal(t, codes.AlreadyExists, requireReason(t, err, "ID_REUSED").Code, "same ids, other bytes")
		_, err = a.submit(other, newID())
		requireReason(t, err, "ID_REUSED")
		_, err = a.submit(firstReport("b"), request)
		requireReason(t, err, "ID_REUSED")
		moved := proto.CloneOf(r)
		moved.CaseId = newID()
		_, err = a.submit(moved, newID())
		requireReason(t, err, "ID_REUSED")
	}
	check()
	// A request id is the member's own.
	mine := firstReport("a")
	_, err = b.submit(mine, request)
	require.NoError(t, err)
	h.restart(nil)
	a.dial()
	check()
	require.Len(t, h.stored(pb.Lane_LANE_LIVE), 2)
}

func TestManyWhoRaceWithOneReportGetOneReceipt(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR)
	r, request := firstReport("b"), newID()
	receipts := make([]*pb.Envelope, 64)
	errs := make([]error, len(receipts))
	var wg sync.WaitGroup
	for i := range receipts {
		wg.Go(func() {
			if i%2 == 0 {
				receipts[i], errs[i] = a.submit(r, request)
			} else {
				receipts[i], errs[i] = a.submit(r, newID())
			}
		})
	}
	wg.Wait()
	for i := range receipts {
		require.NoError(t, errs[i])
		require.Equal(t, encoded(t, receipts[0]), encoded(t, receipts[i]))
	}
	require.Len(t, h.stored(pb.Lane_LANE_LIVE), 1)
}

func TestOfManyReportsUnderOneIdOneIsAccepted(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	h.join("c", pb.Role_ROLE_OPERATOR)
	id := newID()
	errs := make([]error, 32)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			r := firstReport("c") // each in a case of its own, so no lock orders them
			r.ReportId = id
			_, errs[i] = []*testMember{a, b}[i%2].submit(r, newID())
		})
	}
	wg.Wait()
	accepted := 0
	for _, err := range errs {
		if err == nil {
			accepted++
			continue
		}
		requireReason(t, err, "ID_REUSED")
	}
	require.Equal(t, 1, accepted)
	require.Len(t, h.stored(pb.Lane_LANE_LIVE), 1)
}

func TestWhatAnotherMemberReportedCannotBeTakenOver(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	c := h.join("c", pb.Role_ROLE_OPERATOR)
	r := firstReport("b")
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	env := h.stored(pb.Lane_LANE_LIVE)[0].GetEnvelope()
	for name, thief := range map[string]*testMember{"a recipient": b, "a stranger": c} {
		_, err = thief.hub.SubmitReport(context.Background(), &pb.SubmitReportRequest{RequestId: newID(), Envelope: env})
		requireReason(t, err, "SIGNATURE_INVALID")
		_, err = thief.submitBytes(env.GetPayload(), seal.LiveReportType, newID())
		requireReason(t, err, "ID_REUSED")
		reused := firstReport("a")
		reused.ReportId = r.GetReportId()
		_, err = thief.submit(reused, newID())
		said := requireReason(t, err, "ID_REUSED")
		require.NotContains(t, said.Error()+said.Japanese(), "\"a\"", "%s does not hear whose it is", name)
		follow := firstReport("a")
		follow.CaseId, follow.Sequence, follow.Stage = r.GetCaseId(), 2, pb.Stage_STAGE_FOLLOW_UP
		_, err = thief.submit(follow, newID())
		requireReason(t, err, "CASE_UNKNOWN")
	}
	require.Len(t, h.stored(pb.Lane_LANE_LIVE), 1)
}

func TestACaseGoesUpAndBelongsToItsSource(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR)
	r := firstReport("b")
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	number := func(n uint32) error {
		next := firstReport("b")
		next.CaseId, next.Sequence, next.Stage = r.GetCaseId(), n, pb.Stage_STAGE_FOLLOW_UP
		if n == 1 {
			next.Stage = pb.Stage_STAGE_PRELIMINARY
		}
		_, err := a.submit(next, newID())
		return err
	}
	requireReason(t, number(1), "SEQUENCE_USED")
	require.NoError(t, number(2))
	requireReason(t, number(2), "SEQUENCE_USED")
	require.NoError(t, number(5))
	requireReason(t, number(3), "SEQUENCE_USED")
	h.restart(nil)
	a.dial()
	requireReason(t, number(5), "SEQUENCE_USED")
	require.NoError(t, number(6))
}

func TestOneNumberOfACaseIsAcceptedOnceAmongRacers(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR)
	id, errs := newID(), make([]error, 16)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			r := firstReport("b")
			r.CaseId = id
			_, errs[i] = a.submit(r, newID())
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			requireReason(t, err, "SEQUENCE_USED")
		}
	}
	require.Equal(t, 1, won)
}

func TestOnlyTheCallersOwnSignatureOverTheseBytesCounts(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	tok := h.inviteAgain("a")
	second, err := joinAs(t, tok, honest(tok))
	require.NoError(t, err)
	payload := encoded(t, firstReport("b"))
	send := func(env *pb.Envelope) error {
		_, err := a.hub.SubmitReport(context.Background(), &pb.SubmitReportRequest{RequestId: newID(), Envelope: env})
		return err
	}
	altered := seal.Sign(a.signing, seal.LiveReportType, payload)
	altered.Payload = append(bytes.Clone(payload), 0)
	flipped := seal.Sign(a.signing, seal.LiveReportType, payload)
	flipped.Signatures[0].Signature[5] ^= 1
	unsigned := &pb.Envelope{PayloadType: seal.LiveReportType, Payload: payload}
	exercise := seal.Sign(a.signing, seal.ExerciseReportType, payload)
	exercise.PayloadType = seal.LiveReportType
	for name, env := range map[string]*pb.Envelope{
		"altered": altered, "flipped": flipped, "unsigned": unsigned, "signed as an exercise": exercise,
		"of another member":       seal.Sign(b.signing, seal.LiveReportType, payload),
		"of another node of ours": seal.Sign(second.signing, seal.LiveReportType, payload),
	} {
		require.Equal(t, codes.InvalidArgument, requireReason(t, send(env), "SIGNATURE_INVALID").Code, name)
	}
	for reason, env := range map[string]*pb.Envelope{
		"PAYLOAD_TYPE_UNKNOWN": seal.Sign(a.signing, seal.SubmitReceiptType, payload),
		"PAYLOAD_MALFORMED":    seal.Sign(a.signing, seal.LiveReportType, []byte{0xff}),
		"LANE_MISMATCH":        seal.Sign(a.signing, seal.ExerciseReportType, payload),
		"REPORT_TOO_LARGE":     seal.Sign(a.signing, seal.LiveReportType, make([]byte, 1<<20+1)),
	} {
		requireReason(t, send(env), reason)
	}
	requireReason(t, send(nil), "PAYLOAD_TYPE_UNKNOWN")
	requireReason(t, send(seal.Sign(a.signing, seal.LiveReportType, make([]byte, 3<<20))), "MESSAGE_TOO_LARGE")
	for _, request := range []string{"", "A", "a b", strings.Repeat("a", 65)} {
		_, err := a.submitBytes(payload, seal.LiveReportType, request)
		requireReason(t, err, "REQUEST_ID_INVALID")
	}
	require.Empty(t, h.stored(pb.Lane_LANE_LIVE))
	require.Empty(t, h.stored(pb.Lane_LANE_EXERCISE))
}

func TestAnExerciseAndALiveReportNeverMeet(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	live, drill := b.open(t, pb.Lane_LANE_LIVE, viaNATS), b.open(t, pb.Lane_LANE_EXERCISE, viaNATS)
	r := firstReport("b")
	r.Lane = pb.Lane_LANE_EXERCISE
	_, err := a.submitBytes(encoded(t, r), seal.LiveReportType, newID())
	requireReason(t, err, "LANE_MISMATCH")
	request := newID()
	env, err := a.submitBytes(encoded(t, r), seal.ExerciseReportType, request)
	require.NoError(t, err)
	require.Equal(t, pb.Lane_LANE_EXERCISE, h.accepts(env).GetLane())

	check := func() {
		t.Helper()
		require.Empty(t, h.stored(pb.Lane_LANE_LIVE))
		require.Len(t, h.stored(pb.Lane_LANE_EXERCISE), 1)
		l := h.lanes[pb.Lane_LANE_LIVE]
		_, known := l.index.report(r.GetReportId())
		require.False(t, known)
		_, known = l.index.request("a", request)
		require.False(t, known)
		_, known = l.index.caseOf(r.GetCaseId())
		require.False(t, known)
		_, err := a.hub.ListReceipts(context.Background(), &pb.ListReceiptsRequest{Lane: pb.Lane_LANE_LIVE, ReportId: r.GetReportId()})
		requireReason(t, err, "NOT_FOUND")
	}
	check()
	d := drill.delivery()
	require.Equal(t, pb.Lane_LANE_EXERCISE, d.GetLane())
	require.Equal(t, seal.ExerciseReportType, d.GetEnvelope().GetPayloadType())
	h.restart(nil)
	a.dial()
	b.dial()
	check()
	// An id is one report for ever, drill or not.
	real := proto.CloneOf(r)
	real.Lane = pb.Lane_LANE_LIVE
	_, err = a.submit(real, newID())
	requireReason(t, err, "ID_REUSED")
	real.ReportId = newID()
	_, err = a.submit(real, request)
	requireReason(t, err, "ID_REUSED")
	// A real report comes alone.
	_, err = a.submit(real, newID())
	require.NoError(t, err)
	require.Empty(t, live.rest())
	live = b.open(t, pb.Lane_LANE_LIVE, viaNATS)
	d = live.delivery()
	require.Equal(t, uint64(1), d.GetDeliverySequence())
	require.Equal(t, pb.Lane_LANE_LIVE, d.GetLane())
	live.confirm(d, stored)
	h.confirmed(b, pb.Lane_LANE_LIVE, 1)
	require.Empty(t, live.rest())
}

// upload sends pieces of a part under a description.
func upload(m *testMember, lane pb.Lane, p *pb.Part, pieces ...[]byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := m.hub.UploadPart(ctx)
	if err != nil {
		return err
	}
	for i, piece := range append([][]byte{nil}, pieces...) {
		req := &pb.UploadPartRequest{Data: piece}
		if i == 0 {
			req.Part, req.Lane = p, lane
		}
		if err := stream.Send(req); err != nil {
			break // CloseAndRecv tells why
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// attach uploads a part and describes it.
func attach(t testing.TB, m *testMember, lane pb.Lane, data []byte) *pb.Part {
	t.Helper()
	digest := sha256.Sum256(data)
	p := &pb.Part{Digest: digest[:], Size: uint64(len(data)), Class: pb.DisclosureClass_DISCLOSURE_CLASS_DAMAGE}
	require.NoError(t, upload(m, lane, p, data))
	return p
}

func download(m *testMember, report string, digest []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := m.hub.DownloadPart(ctx, &pb.DownloadPartRequest{Lane: pb.Lane_LANE_LIVE, ReportId: report, Digest: digest})
	if err != nil {
		return nil, err
	}
	var all []byte
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetData()...)
	}
}

func TestAReportIsAcceptedOnlyWithItsParts(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_OPERATOR)
	data := bytes.Repeat([]byte("0123456789abcdef"), 40<<10) // 640 KiB: several pieces
	digest := sha256.Sum256(data)
	p := &pb.Part{Digest: digest[:], Size: uint64(len(data)), Class: pb.DisclosureClass_DISCLOSURE_CLASS_DAMAGE}
	r := firstReport("b")
	r.Attachments = []*pb.Part{p}
	missing := func() {
		t.Helper()
		_, err := a.submit(r, newID())
		require.Equal(t, codes.FailedPrecondition, requireReason(t, err, "PART_MISSING").Code)
	}
	missing()
	require.NoError(t, upload(c, pb.Lane_LANE_LIVE, p, data), "what another member uploads is its own")
	missing()
	require.NoError(t, upload(a, pb.Lane_LANE_EXERCISE, p, data), "what is uploaded to exercises stays there")
	missing()
	require.NoError(t, upload(a, pb.Lane_LANE_LIVE, p, data[:300<<10], nil, data[300<<10:]))
	lies := proto.CloneOf(r)
	lies.Attachments[0].Size++
	_, err := a.submit(lies, newID())
	requireReason(t, err, "PART_MISSING")
	h.restart(nil)
	for _, m := range []*testMember{a, b, c} {
		m.dial()
	}
	require.NoError(t, upload(a, pb.Lane_LANE_LIVE, p, data), "uploading again changes nothing")
	_, err = a.submit(r, newID())
	require.NoError(t, err)
	for _, m := range []*testMember{a, b} {
		got, err := download(m, r.GetReportId(), digest[:])
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
	}
	_, err = download(c, r.GetReportId(), digest[:])
	requireReason(t, err, "NOT_FOUND")
	other := sha256.Sum256(nil)
	_, err = download(b, r.GetReportId(), other[:])
	requireReason(t, err, "NOT_FOUND")
}

func TestAnUploadThatIsNotWhatItSaysIsNotKept(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR)
	data := []byte("content")
	digest := sha256.Sum256(data)
	good := func() *pb.Part { return &pb.Part{Digest: digest[:], Size: uint64(len(data))} }
	sized := func(n uint64) *pb.Part { p := good(); p.Size = n; return p }
	for name, c := range map[string]struct {
		reason string
		part   *pb.Part
		data   []byte
	}{
		"other bytes":    {"DIGEST_MISMATCH", good(), []byte("CONTENT")},
		"fewer bytes":    {"DIGEST_MISMATCH", good(), data[:3]},
		"more bytes":     {"DIGEST_MISMATCH", good(), append(bytes.Clone(data), 'x')},
		"no bytes":       {"DIGEST_MISMATCH", good(), nil},
		"another size":   {"DIGEST_MISMATCH", sized(9), data},
		"no size":        {"PART_EMPTY", sized(0), data},
		"too large":      {"PART_TOO_LARGE", sized(16<<20 + 1), data},
		"no description": {"FIELD_MISSING", nil, data},
		"short digest":   {"DIGEST_INVALID", &pb.Part{Digest: digest[:31], Size: 7}, data},
	} {
		t.Run(name, func(t *testing.T) {
			requireReason(t, upload(a, pb.Lane_LANE_LIVE, c.part, c.data), c.reason)
		})
	}
	requireReason(t, upload(a, 0, good(), data), "LANE_MISSING")
	r := firstReport("b")
	r.Attachments = []*pb.Part{{Digest: digest[:], Size: uint64(len(data)), Class: pb.DisclosureClass_DISCLOSURE_CLASS_DAMAGE}}
	_, err := a.submit(r, newID())
	requireReason(t, err, "PART_MISSING")
	require.NoError(t, upload(a, pb.Lane_LANE_LIVE, good(), data), "the digest is still free")
	_, err = a.submit(r, newID())
	require.NoError(t, err)
}

func TestUploadsThatNoReportNamesAreBounded(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	h.limits.Part, h.limits.Parts = 1000, 1000 // read by calls only; none runs now
	first := attach(t, a, pb.Lane_LANE_LIVE, bytes.Repeat([]byte{1}, 1000))
	attach(t, a, pb.Lane_LANE_LIVE, bytes.Repeat([]byte{2}, 1000))
	third := bytes.Repeat([]byte{3}, 1000)
	digest := sha256.Sum256(third)
	p := &pb.Part{Digest: digest[:], Size: 1000}
	require.Equal(t, codes.ResourceExhausted, requireReason(t, upload(a, pb.Lane_LANE_LIVE, p, third), "PARTS_WAITING").Code)
	require.NoError(t, upload(b, pb.Lane_LANE_LIVE, p, third), "each member has its own bound")
	r := firstReport("b")
	r.Attachments = []*pb.Part{first}
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	require.NoError(t, upload(a, pb.Lane_LANE_LIVE, p, third), "a report has made room")
}

func TestPartsThatWaitTooLongAreRemovedAndOthersStay(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR)
	named, waiting := attach(t, a, pb.Lane_LANE_LIVE, []byte("named")), attach(t, a, pb.Lane_LANE_LIVE, []byte("waiting"))
	r := firstReport("b")
	r.Attachments = []*pb.Part{named}
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	check := func() {
		t.Helper()
		shelf := &h.lanes[pb.Lane_LANE_LIVE].parts
		require.Empty(t, shelf.takeUnclaimed(time.Now().Add(-unclaimedFor)), "nothing has waited a day")
		require.Equal(t, []string{partID("a", waiting.GetDigest())}, shelf.takeUnclaimed(time.Now().Add(time.Hour)))
		require.Contains(t, shelf.stored, partID("a", named.GetDigest()))
	}
	check()
	h.restart(nil)
	check()
}

func TestWhatThePreviewRefusesSubmittingRefuses(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR, "others")
	outside := firstReport("b")
	outside.Tlp, outside.CommunityId = pb.TlpLabel_TLP_LABEL_GREEN, "others"
	for reason, r := range map[string]*pb.Report{
		"RECIPIENT_UNKNOWN": firstReport("nobody"), "RECIPIENT_IS_SOURCE": firstReport("a"), "COMMUNITY_NOT_YOURS": outside, "RECIPIENTS_MISSING": firstReport(),
	} {
		_, err := a.hub.PlanReport(context.Background(), &pb.PlanReportRequest{Report: r})
		preview := requireReason(t, err, reason)
		_, err = a.submit(r, newID())
		require.Equal(t, preview, requireReason(t, err, reason))
	}
	_, err := a.hub.PlanReport(context.Background(), new(pb.PlanReportRequest))
	requireReason(t, err, "FIELD_MISSING")
	require.Empty(t, h.stored(pb.Lane_LANE_LIVE))
}
