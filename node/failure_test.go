package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// eventually waits for a condition of another goroutine.
func eventually(t testing.TB, condition func() bool, what string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 5*time.Millisecond, append([]any{what}, args...)...)
}

// incoming is a sound report of another member, with parts where given.
func incoming(t testing.TB, lane pb.Lane, title string, parts ...*pb.Part) *pb.Report {
	t.Helper()
	id := newID(t)
	return &pb.Report{
		ReportId: id, CaseId: id, Sequence: 1, Lane: lane, Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Title: title, Summary: "概要",
		Stage: pb.Stage_STAGE_PRELIMINARY, Attachments: parts,
	}
}

// atHub puts bytes on the hub's shelf and describes them.
func (h *fakeHub) atHub(data string) *pb.Part {
	sum := sha256.Sum256([]byte(data))
	h.see(func() { h.parts[string(sum[:])] = []byte(data) })
	return &pb.Part{Digest: sum[:], Size: uint64(len(data)), Name: "log.txt", Class: pb.DisclosureClass_DISCLOSURE_CLASS_CONTEXT}
}

func (n *runningNode) addPart(t testing.TB, data string) *pb.Part {
	t.Helper()
	p, err := n.store.addPart(t.Context(), &pb.Part{Name: "own.txt", Class: pb.DisclosureClass_DISCLOSURE_CLASS_CONTEXT}, strings.NewReader(data), maxPart)
	require.NoError(t, err)
	return p
}

// publish puts a report into the outbox without waiting for the hub.
func (n *runningNode) publish(t testing.TB, r *pb.Report) string {
	t.Helper()
	resp, err := n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: r})
	require.NoError(t, err)
	return resp.GetItem().GetReport()
}

func draft(title string, parts ...*pb.Part) *pb.Report {
	return &pb.Report{Lane: pb.Lane_LANE_LIVE, Tlp: pb.TlpLabel_TLP_LABEL_CLEAR, Title: title, Summary: "概要", Attachments: parts}
}

func memberProfile() *pb.Profile {
	return &pb.Profile{
		Organisation: "東ターミナル", Place: &pb.Place{Port: "みなと港", Terminal: "東"},
		Desks: []*pb.Desk{
			{Name: "当直", Contacts: []*pb.Contact{{Name: "港 一郎", Phone: "03-0000-0001"}, {Name: "波止 花子", Mail: "hanako@port.example"}}},
			{Name: "本社", Contacts: []*pb.Contact{{Name: "灘 次郎", Phone: "03-0000-0003"}, {Name: "浦 三郎", Phone: "03-0000-0004"}}},
		},
		Persons: []*pb.Person{{Id: "ciso", Name: "港 一郎"}},
	}
}

func (n *runningNode) has(lane pb.Lane, report string) bool {
	_, err := n.store.item(context.Background(), lane, report)
	return err == nil
}

func (n *runningNode) stateOf(t testing.TB, report string) pb.OutboxState {
	t.Helper()
	item, err := n.store.outboxItem(t.Context(), report)
	require.NoError(t, err)
	return item.GetState()
}

// lists says whether the directory has a key of terminal-a.
func (h *fakeHub) lists(key string) (there bool) {
	h.see(func() {
		there = slices.ContainsFunc(h.keys["terminal-a"], func(k *pb.SignedKey) bool { return seal.KeyID(k.GetEntry().GetPublicKey()) == key })
	})
	return there
}

// atRest says that nothing waits any more, on either side.
func (h *fakeHub) atRest(n *runningNode) bool {
	c, err := n.store.counts(context.Background())
	if err != nil || c.queued > 0 || c.receipts > 0 {
		return false
	}
	_, pending, err := n.store.profile(context.Background())
	if err != nil || pending {
		return false
	}
	if members, _, err := n.store.directory(context.Background()); err != nil || len(members) != 2 {
		return false
	}
	if time.Now().After(renewAt(n.id.cert.Load().Leaf)) || !h.lists(n.keys.current().Public().ID()) {
		return false
	}
	rest := true
	h.see(func() {
		for _, l := range h.lanes {
			rest = rest && l.confirmed == len(l.deliveries)
		}
	})
	return rest
}

// requireKept holds a stopped node's store against what the hub saw. Whatever
// failed on the way:
//   - every published report is in the outbox, and either the hub has it, once,
//     under one request id and with the same bytes on each try, or it stands
//     there refused with reasons in both languages;
//   - everything sound that was delivered is in the inbox once, in the order
//     of the hub, was stored before it was confirmed, and nothing else is.
func requireKept(t testing.TB, h *fakeHub, dir string, published []string, unsound ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Empty(t, h.wrong)
	s, err := openStore(filepath.Join(dir, "node.db"))
	require.NoError(t, err)
	defer s.Close()
	items, _, err := s.listOutbox(t.Context(), maxPage, "")
	require.NoError(t, err)
	require.Len(t, items, len(published))
	for _, item := range items {
		id := item.GetReport()
		require.Contains(t, published, id)
		requests, contents, first := map[string]bool{}, map[[sha256.Size]byte]bool{}, 0
		for _, s := range h.submits {
			if s.report == id {
				requests[s.request], contents[s.digest] = true, true
				if s.isNew {
					first++
				}
			}
		}
		kept, accepted := h.accepted[id]
		if !accepted {
			require.Equal(t, pb.OutboxState_OUTBOX_STATE_REFUSED, item.GetState(), "%v", item)
			require.NotEmpty(t, item.GetRefusal().GetReason())
			require.NotEmpty(t, item.GetRefusal().GetViolations())
			for _, v := range item.GetRefusal().GetViolations() {
				require.NotEmpty(t, v.GetJapanese())
				require.NotEmpty(t, v.GetEnglish())
			}
			continue
		}
		require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState(), "%v", item)
		require.Len(t, requests, 1, "one request id for all tries")
		require.Len(t, contents, 1, "the same bytes on each try")
		require.Equal(t, 1, first)
		require.Equal(t, "terminal-b", item.GetPlan().GetCopies()[0].GetMember())
		row, err := s.outboxRow(t.Context(), id)
		require.NoError(t, err)
		env := new(pb.Envelope)
		require.NoError(t, proto.Unmarshal(row.receipt, env))
		payload, err := seal.Verify(env, seal.SubmitReceiptType, h.key.Public().(ed25519.PublicKey))
		require.NoError(t, err)
		require.Equal(t, kept, payload)
	}
	for _, lane := range lanes {
		var want, got []string
		for _, d := range h.lanes[lane].deliveries {
			if !slices.Contains(unsound, d.GetReportId()) && !slices.Contains(want, d.GetReportId()) {
				want = append(want, d.GetReportId())
			}
		}
		rows, err := s.list(t.Context(), lane, 0, maxPage)
		require.NoError(t, err)
		for _, r := range rows {
			got = append(got, r.item.GetReport())
			for _, p := range r.item.GetParts() {
				in, err := s.partReader(t.Context(), p.GetDigest())
				require.NoError(t, err)
				var data bytes.Buffer
				_, err = data.ReadFrom(in)
				require.NoError(t, err)
				require.Equal(t, h.parts[string(p.GetDigest())], data.Bytes())
			}
		}
		require.Equal(t, want, got, "inbox of %s", lane)
		require.Equal(t, len(h.lanes[lane].deliveries), h.lanes[lane].confirmed)
	}
}

// TestNothingIsLostWhateverBecomesOfACall loses, refuses and delays each kind of
// call once, ends the node at that moment, and starts it again from its disk.
func TestNothingIsLostWhateverBecomesOfACall(t *testing.T) {
	outcomes := map[string]fault{
		"lost on the way": lostOnTheWay, "answer lost": answerLost, "refused": refusedByHub, "answered late": answerLate,
	}
	for _, call := range []string{callUpload, callSubmit, callReact, callDownload, callRenew, callProfile, callMembers, callKey} {
		for outcome, f := range outcomes {
			t.Run(call+" "+outcome, func(t *testing.T) {
				t.Parallel()
				h := newFakeHub(t, GRPC)
				h.fail(call, f)
				h.throughOneDay(t, call, outcome == "refused")
			})
		}
	}
}

// TestNothingIsLostWhateverBecomesOfASession does the same to sessions, over
// both transports.
func TestNothingIsLostWhateverBecomesOfASession(t *testing.T) {
	trouble := map[string]func(h *fakeHub, l *fakeLane){
		"lost on the way": func(h *fakeHub, _ *fakeLane) { h.fail(callSession, lostOnTheWay, lostOnTheWay) },
		"refused":         func(h *fakeHub, _ *fakeLane) { h.fail(callSession, refusedByHub, refusedByHub) },
		"receipts lost": func(_ *fakeHub, l *fakeLane) {
			l.deaf = func(session int) bool { return session == 1 }
		},
		"silent": func(_ *fakeHub, l *fakeLane) {
			l.alter = func(session int, m *pb.SessionMessage) *pb.SessionMessage {
				if session == 1 {
					return nil
				}
				return m
			}
		},
		"deliveries lost": func(_ *fakeHub, l *fakeLane) {
			l.alter = func(session int, m *pb.SessionMessage) *pb.SessionMessage {
				if session < 3 && m.GetDelivery() != nil {
					return nil
				}
				return m
			}
		},
	}
	for _, transport := range []Transport{GRPC, NATS} {
		for what, disturb := range trouble {
			t.Run(fmt.Sprintf("%s %s", transport, what), func(t *testing.T) {
				t.Parallel()
				h := newFakeHub(t, transport)
				disturb(h, h.lanes[liveLane])
				h.throughOneDay(t, "", false)
			})
		}
	}
}

// throughOneDay lets a node publish, receive, react and change its profile
// while a call of one kind is disturbed, restarts it, and looks at the result.
func (h *fakeHub) throughOneDay(t *testing.T, call string, refused bool) {
	h.issued = time.Now().Add(-8 * 24 * time.Hour) // due for renewal
	dir := h.join(t)
	n := h.run(t, dir)
	first := h.deliver(t, incoming(t, liveLane, "先の報告"))
	drill := h.deliver(t, incoming(t, exerciseLane, "訓練の報告"))
	if call == "" { // the first session may be a bad one; a restart does not hang on it
		eventually(t, func() bool { return n.has(exerciseLane, drill) }, "the drill arrives")
		n.end()
		n = h.run(t, dir)
	}
	eventually(t, func() bool { return n.has(liveLane, first) && n.has(exerciseLane, drill) }, "the first reports arrive")
	second := h.deliver(t, incoming(t, liveLane, "添付のある報告", h.atHub("log of the other side")))
	published := []string{
		n.publish(t, draft("添付のある自分の報告", n.addPart(t, "own log"))),
		n.publish(t, draft("添付のない自分の報告")),
	}
	_, err := n.Acknowledge(t.Context(), &pb.AcknowledgeRequest{Report: first, Reaction: pb.Reaction_REACTION_CHECKING, Person: "港"})
	require.NoError(t, err)
	updated, err := n.UpdateProfile(t.Context(), &pb.UpdateProfileRequest{Profile: memberProfile()})
	if call == callProfile {
		if refused {
			require.ErrorContains(t, err, "does not take it")
			kept, pending, err := n.store.profile(t.Context())
			require.NoError(t, err)
			require.Zero(t, proto.Size(kept), "what the hub refuses is not kept")
			require.False(t, pending)
		} else {
			require.NoError(t, err)
			require.False(t, updated.GetRecorded())
		}
	} else {
		require.NoError(t, err)
	}
	if call != "" {
		eventually(t, func() (met bool) {
			h.see(func() { met = h.taken[call] > 0 })
			return met
		}, "%s is called", call)
	}
	if refused { // a refusal that does not reach the node is tried again
		eventually(t, func() bool {
			c, err := n.store.counts(t.Context())
			return err == nil && (c.refused > 0 || call != callSubmit && call != callUpload) && (c.receipts == 0 || call != callReact)
		}, "the refusal is kept")
	}
	n.end()
	n = h.run(t, dir)
	eventually(t, func() bool { return n.has(liveLane, second) && h.atRest(n) }, "all settles after a restart")
	n.end()
	requireKept(t, h, dir, published)

	h.mu.Lock()
	defer h.mu.Unlock()
	if set := !(refused && call == callProfile); set {
		require.Equal(t, "東ターミナル", h.profile.GetOrganisation())
	}
	want := 1
	if refused && call == callReact {
		want = 0
	}
	ids := map[string]bool{}
	for _, r := range h.reactions {
		require.Equal(t, first, r.GetReportId())
		require.Equal(t, pb.Reaction_REACTION_CHECKING, r.GetReaction())
		ids[r.GetReceiptTime().AsTime().String()] = true
	}
	require.Len(t, ids, want, "one reaction, the same on each try")
	wantRefused := 0
	if refused && (call == callSubmit || call == callUpload) {
		wantRefused = 1
	}
	require.Len(t, h.accepted, len(published)-wantRefused, "what is refused stands in nobody's way")
}

func TestCertificateRefusedKeepsTheReportAndSaysSo(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	h.bar(true)
	n := h.run(t, dir)
	_, err := n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: draft("証明書"), Wait: durationpb.New(20 * time.Second)})
	refusal, ok := rpc.RefusalOf(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, codes.Unauthenticated, refusal.Code)
	require.Equal(t, "CERTIFICATE_REFUSED", refusal.Reason)
	require.Equal(t, 4, rpc.ExitCode(err))
	items, _, err := n.store.listOutbox(t.Context(), 0, "")
	require.NoError(t, err)
	require.Len(t, items, 1)
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_QUEUED, items[0].GetState())
	require.NotEmpty(t, items[0].GetDelayReason())
	n.end()
	h.bar(false)
	n = h.run(t, dir)
	eventually(t, func() bool { return h.atRest(n) }, "it is sent when the certificate is accepted again")
	n.end()
	requireKept(t, h, dir, []string{items[0].GetReport()})
}

func TestMissingPartIsUploadedAgain(t *testing.T) {
	h := newFakeHub(t, GRPC)
	h.fail(callSubmit, func(_ context.Context, do func() error) error {
		h.see(func() { clear(h.parts) }) // swept before the report came
		return do()
	})
	dir := h.join(t)
	n := h.run(t, dir)
	id := n.publish(t, draft("添付", n.addPart(t, strings.Repeat("log ", chunkSize))))
	eventually(t, func() bool { return n.stateOf(t, id) == pb.OutboxState_OUTBOX_STATE_ACCEPTED }, "accepted")
	require.Equal(t, 2, h.count(callUpload))
	n.end()
	requireKept(t, h, dir, []string{id})
}

func TestOnlyTheHubsReceiptForThisReportIsAcceptance(t *testing.T) {
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	resigned := func(h *fakeHub, alter func(*pb.SubmitReceipt)) func(*pb.SubmitReportResponse) {
		return func(resp *pb.SubmitReportResponse) {
			r := new(pb.SubmitReceipt)
			if err := proto.Unmarshal(resp.GetReceipt().GetPayload(), r); err != nil {
				panic(err)
			}
			alter(r)
			payload, err := proto.Marshal(r)
			if err != nil {
				panic(err)
			}
			resp.Receipt = seal.Sign(h.key, seal.SubmitReceiptType, payload)
		}
	}
	for what, alter := range map[string]func(h *fakeHub) func(*pb.SubmitReportResponse){
		"no receipt": func(*fakeHub) func(*pb.SubmitReportResponse) {
			return func(r *pb.SubmitReportResponse) { r.Receipt = nil }
		},
		"another key": func(*fakeHub) func(*pb.SubmitReportResponse) {
			return func(r *pb.SubmitReportResponse) {
				r.Receipt = seal.Sign(stranger, seal.SubmitReceiptType, r.GetReceipt().GetPayload())
			}
		},
		"another kind of receipt": func(h *fakeHub) func(*pb.SubmitReportResponse) {
			return func(r *pb.SubmitReportResponse) {
				r.Receipt = seal.Sign(h.key, seal.DeliveryReceiptType, r.GetReceipt().GetPayload())
			}
		},
		"altered after signing": func(*fakeHub) func(*pb.SubmitReportResponse) {
			return func(r *pb.SubmitReportResponse) { r.Receipt.Payload = append(r.Receipt.Payload, 0x40, 1) }
		},
		"no protobuf": func(h *fakeHub) func(*pb.SubmitReportResponse) {
			return func(r *pb.SubmitReportResponse) {
				r.Receipt = seal.Sign(h.key, seal.SubmitReceiptType, []byte{0xff})
			}
		},
		"another report": func(h *fakeHub) func(*pb.SubmitReportResponse) {
			return resigned(h, func(r *pb.SubmitReceipt) { r.ReportId = "00000000000000000000000000000000" })
		},
		"other content": func(h *fakeHub) func(*pb.SubmitReportResponse) {
			return resigned(h, func(r *pb.SubmitReceipt) { r.PayloadDigest[0] ^= 1 })
		},
		"no content": func(h *fakeHub) func(*pb.SubmitReportResponse) {
			return resigned(h, func(r *pb.SubmitReceipt) { r.PayloadDigest = nil })
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newFakeHub(t, GRPC)
			h.onSubmit = alter(h)
			dir := h.join(t)
			n := h.run(t, dir)
			id := n.publish(t, draft("受領証"))
			eventually(t, func() bool { return h.count(callSubmit) >= 3 }, "it is tried again")
			require.Equal(t, pb.OutboxState_OUTBOX_STATE_QUEUED, n.stateOf(t, id))
			row, err := n.store.outboxRow(t.Context(), id)
			require.NoError(t, err)
			require.Nil(t, row.receipt)
			n.end()
			h.see(func() { h.onSubmit = nil })
			n = h.run(t, dir)
			eventually(t, func() bool { return h.atRest(n) }, "the true receipt counts")
			n.end()
			requireKept(t, h, dir, []string{id})
		})
	}
}

func TestUnsoundDeliveriesAreRejectedAndNotShown(t *testing.T) {
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	h := newFakeHub(t, GRPC)
	h.silent = time.Minute
	dir := h.join(t)
	n := h.run(t, dir)
	eventually(t, func() bool { return len((*n.signers.Load())["terminal-b"]) == 1 }, "the directory is there")
	labelled := func(label pb.TlpLabel) *pb.Report {
		r := incoming(t, liveLane, "表示")
		r.Tlp = label
		return r
	}
	tooSmall, swapped := h.atHub("more than announced"), h.atHub("as announced")
	tooSmall.Size = 3
	h.see(func() { h.parts[string(swapped.GetDigest())] = []byte("as pretended") })
	asDrill := incoming(t, exerciseLane, "訓練")
	asDrill.Lane = liveLane // deliver puts it into the live session
	unsound := []string{
		h.deliver(t, incoming(t, liveLane, "署名"), func(d *pb.Delivery) { d.Envelope.Signatures[0].Signature[0] ^= 1 }),
		h.deliver(t, incoming(t, liveLane, "改変"), func(d *pb.Delivery) { d.Envelope.Payload[len(d.Envelope.Payload)-1] ^= 1 }),
		h.deliver(t, incoming(t, liveLane, "鍵"), func(d *pb.Delivery) { d.SourceKey = stranger.Public().(ed25519.PublicKey) }),
		h.deliver(t, incoming(t, liveLane, "無署名"), func(d *pb.Delivery) { d.Envelope.Signatures = nil }),
		h.deliver(t, incoming(t, liveLane, "封筒なし"), func(d *pb.Delivery) { d.Envelope = nil }),
		h.deliver(t, incoming(t, liveLane, "鍵なし"), func(d *pb.Delivery) { d.SourceKey = nil }),
		h.deliver(t, asDrill, func(d *pb.Delivery) {
			r := proto.CloneOf(asDrill)
			r.Lane = exerciseLane
			payload, err := proto.Marshal(r)
			require.NoError(t, err)
			d.Envelope, d.SourceKey = seal.Sign(stranger, seal.ExerciseReportType, payload), stranger.Public().(ed25519.PublicKey)
		}),
		h.deliver(t, incoming(t, liveLane, "区分"), func(d *pb.Delivery) {
			r := incoming(t, exerciseLane, "区分")
			r.ReportId = d.ReportId
			payload, err := proto.Marshal(r)
			require.NoError(t, err)
			d.Envelope, d.SourceKey = seal.Sign(stranger, seal.LiveReportType, payload), stranger.Public().(ed25519.PublicKey)
		}),
		h.deliver(t, incoming(t, liveLane, "配達の区分"), func(d *pb.Delivery) { d.Lane = exerciseLane }),
		h.deliver(t, incoming(t, liveLane, "別の番号"), func(d *pb.Delivery) { d.ReportId = newID(t) }),
		h.deliver(t, incoming(t, liveLane, "壊れ"), func(d *pb.Delivery) {
			d.Envelope, d.SourceKey = seal.Sign(stranger, seal.LiveReportType, []byte{0xff, 0xff}), stranger.Public().(ed25519.PublicKey)
		}),
		h.deliver(t, labelled(pb.TlpLabel_TLP_LABEL_UNSPECIFIED)),
		h.deliver(t, labelled(6)),
		h.deliver(t, labelled(256+pb.TlpLabel_TLP_LABEL_CLEAR)),
		h.deliver(t, labelled(pb.TlpLabel_TLP_LABEL_RED)),
		h.deliver(t, labelled(pb.TlpLabel_TLP_LABEL_AMBER), func(d *pb.Delivery) { d.Copy.Member = "terminal-c" }),
		h.deliver(t, incoming(t, liveLane, "他人の署名"), func(d *pb.Delivery) {
			d.Envelope = seal.Sign(stranger, seal.LiveReportType, d.Envelope.Payload)
			d.SourceKey = stranger.Public().(ed25519.PublicKey)
		}),
		h.deliver(t, incoming(t, liveLane, "添付の大きさ", tooSmall)),
		h.deliver(t, incoming(t, liveLane, "添付の中身", swapped)),
	}
	h.see(func() { // what deliver named may have been altered
		for i, d := range h.lanes[liveLane].deliveries {
			unsound[i] = d.GetReportId()
		}
	})
	red := h.deliver(t, labelled(pb.TlpLabel_TLP_LABEL_RED), func(d *pb.Delivery) { d.Copy.Persons = []string{"ciso"} })
	eventually(t, func() bool { return h.atRest(n) }, "all is answered")
	require.True(t, n.has(liveLane, red))
	h.see(func() {
		l := h.lanes[liveLane]
		require.Equal(t, 1, l.opened, "nothing of it ends the session")
		require.Len(t, l.receipts, len(unsound)+1)
		for i, r := range l.receipts[:len(unsound)] {
			require.Equal(t, pb.ReceiptState_RECEIPT_STATE_REJECTED, r.GetState(), "%d", i)
			require.NotEmpty(t, r.GetReason())
		}
		require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, l.receipts[len(unsound)].GetState())
	})
	for _, id := range unsound {
		_, err := n.GetReport(t.Context(), &pb.GetReportRequest{Report: id})
		require.ErrorIs(t, err, errNotFound)
	}
	n.end()
	requireKept(t, h, dir, nil, unsound...)
}

func TestAKeyThatTheNodeHasYetToHearOfIsNoReasonToReject(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	n := h.run(t, dir)
	eventually(t, func() bool { return len((*n.signers.Load())["terminal-b"]) == 1 }, "the directory is there")
	_, second, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	h.see(func() { h.second = second })
	h.fail(callMembers, lostOnTheWay, answerLost)
	id := h.deliver(t, incoming(t, liveLane, "二台目から"), func(d *pb.Delivery) {
		d.Envelope = seal.Sign(second, seal.LiveReportType, d.Envelope.Payload)
		d.SourceKey = second.Public().(ed25519.PublicKey)
	})
	eventually(t, func() bool { return n.has(liveLane, id) && h.atRest(n) }, "it arrives when the directory can be read")
	n.end()
	requireKept(t, h, dir, nil)
}

func TestAGapOrAWrongNumberOpensTheSessionAgain(t *testing.T) {
	for what, alter := range map[string]func(m *pb.SessionMessage) *pb.SessionMessage{
		"a delivery is lost": func(m *pb.SessionMessage) *pb.SessionMessage {
			if m.GetDelivery().GetDeliverySequence() == 2 {
				return nil
			}
			return m
		},
		"the last delivery is lost": func(m *pb.SessionMessage) *pb.SessionMessage {
			if m.GetDelivery().GetDeliverySequence() == 3 {
				return nil
			}
			return m
		},
		"a delivery has a number too high": func(m *pb.SessionMessage) *pb.SessionMessage {
			if d := m.GetDelivery(); d.GetDeliverySequence() == 2 {
				d.DeliverySequence = 7
			}
			return m
		},
		"a delivery comes twice": func(m *pb.SessionMessage) *pb.SessionMessage {
			if d := m.GetDelivery(); d.GetDeliverySequence() == 2 {
				d.DeliverySequence = 1
			}
			return m
		},
		"the heartbeat is ahead": func(m *pb.SessionMessage) *pb.SessionMessage {
			if b := m.GetHeartbeat(); b.GetDeliverySequence() == 3 {
				b.DeliverySequence = 4
			}
			return m
		},
		"the heartbeat is behind": func(m *pb.SessionMessage) *pb.SessionMessage {
			if b := m.GetHeartbeat(); b.GetDeliverySequence() == 3 {
				b.DeliverySequence = 0
			}
			return m
		},
		"no heartbeat comes first": func(m *pb.SessionMessage) *pb.SessionMessage {
			if m.GetHeartbeat() != nil {
				return nil
			}
			return m
		},
		"an empty message": func(m *pb.SessionMessage) *pb.SessionMessage {
			if m.GetDelivery().GetDeliverySequence() == 2 {
				return &pb.SessionMessage{}
			}
			return m
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newFakeHub(t, GRPC)
			l := h.lanes[liveLane]
			l.alter = func(session int, m *pb.SessionMessage) *pb.SessionMessage {
				if session < 3 {
					return alter(m)
				}
				return m
			}
			l.deaf = func(session int) bool { return session < 3 } // every session starts at the first
			dir := h.join(t)
			for i := range 3 {
				h.deliver(t, incoming(t, liveLane, fmt.Sprint("報告", i)))
			}
			n := h.run(t, dir)
			eventually(t, func() bool { return h.atRest(n) }, "all arrives")
			h.see(func() { require.GreaterOrEqual(t, l.opened, 3) })
			eventually(t, func() bool { connected, _ := n.state.now(); return connected }, "connected again")
			n.end()
			requireKept(t, h, dir, nil)
		})
	}
}

func TestSilentHubIsNoticed(t *testing.T) {
	for _, transport := range []Transport{GRPC, NATS} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			h := newFakeHub(t, transport)
			var heard sync.Map
			h.lanes[liveLane].alter = func(session int, m *pb.SessionMessage) *pb.SessionMessage {
				if _, again := heard.LoadOrStore(session, true); again && session == 1 {
					return nil // after the first word
				}
				return m
			}
			log := newLog()
			dir := h.join(t)
			n := h.run(t, dir, log.logger())
			eventually(t, func() bool { return log.contains("session ended", "the hub is silent") }, "the silence is noticed")
			id := h.deliver(t, incoming(t, liveLane, "沈黙の後"))
			eventually(t, func() bool { return n.has(liveLane, id) && h.atRest(n) }, "the session is opened again")
			n.end()
			requireKept(t, h, dir, nil)
		})
	}
}

func TestTriesGetRarerWhileTheHubIsAway(t *testing.T) {
	const tries = 8
	h := newFakeHub(t, GRPC)
	var at []time.Time
	away := func(context.Context, func() error) error {
		h.see(func() { at = append(at, time.Now()) })
		return errAway
	}
	for range tries {
		h.fail(callSubmit, away)
	}
	dir := h.join(t)
	n := h.run(t, dir)
	id := n.publish(t, draft("不在"))
	eventually(t, func() bool { return n.stateOf(t, id) == pb.OutboxState_OUTBOX_STATE_ACCEPTED }, "accepted in the end")
	// The sixth wait is 160 ms, less a half at most.
	require.GreaterOrEqual(t, at[tries-1].Sub(at[tries-2]), 80*time.Millisecond)
	n.end()
	requireKept(t, h, dir, []string{id})
}

func TestWaitingReportsGoOutWhenASessionOpens(t *testing.T) {
	h := newFakeHub(t, GRPC)
	h.fail(callSubmit, lostOnTheWay)
	dir := h.join(t)
	n := h.run(t, dir)
	id := n.publish(t, draft("待機"))
	eventually(t, func() bool { return h.atRest(n) }, "sent")
	n.end()

	n = h.run(t, dir)
	h.fail(callSubmit, lostOnTheWay, lostOnTheWay)
	later := n.publish(t, draft("待機2"))
	n.end()
	s, err := openStore(filepath.Join(dir, "node.db"))
	require.NoError(t, err)
	if item, err := s.outboxItem(t.Context(), later); err == nil && item.GetState() == pb.OutboxState_OUTBOX_STATE_QUEUED {
		require.NoError(t, s.markDelayed(t.Context(), later, "away", time.Now().Add(time.Hour)))
	}
	require.NoError(t, s.Close())
	h.see(func() { delete(h.faults, callSubmit) })
	n = h.run(t, dir)
	eventually(t, func() bool { return h.atRest(n) }, "an hour's wait ends when the hub is reached")
	n.end()
	requireKept(t, h, dir, []string{id, later})
}

func TestAPartsNameIsNeverInTheLog(t *testing.T) {
	h := newFakeHub(t, GRPC)
	log := newLog()
	dir := h.join(t)
	n := h.run(t, dir, log.logger())
	p := h.atHub("more than announced")
	p.Name, p.Size = "canary-of-a-file.txt", 3
	h.deliver(t, incoming(t, liveLane, "canary-of-a-title", p))
	eventually(t, func() bool { return log.contains("delivery rejected", "fetch part") }, "the part does not fit")
	n.end()
	require.NotContains(t, log.String(), "canary")
}

// capturedLog is a log to look into.
type capturedLog struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func newLog() *capturedLog { return new(capturedLog) }

func (l *capturedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *capturedLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *capturedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// contains says whether one line has all words.
func (l *capturedLog) contains(words ...string) bool {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return true
		}
	}
	return false
}
