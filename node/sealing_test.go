package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// canary stands in every text that the hub must not see.
const canary = "カナリア kanaria-7f3a"

// published puts a key of terminal-b into the directory: of its node, or of a
// person. signer is that of its first node unless another is given.
func (h *fakeHub) published(t testing.TB, person string, signer ...ed25519.PrivateKey) *seal.PrivateKey {
	t.Helper()
	key, err := seal.GenerateKey(seal.DHKEMP256)
	require.NoError(t, err)
	signer = append(signer, h.source)
	now := time.Now()
	e := &pb.KeyEntry{
		Member: "terminal-b", Person: person, Node: 1, Suite: key.Suite(), PublicKey: key.Public().Bytes(),
		CreateTime: timestamppb.New(now), ExpireTime: timestamppb.New(now.Add(keyLife)),
	}
	env, err := seal.SignKey(signer[0], e)
	require.NoError(t, err)
	h.see(func() { h.list(e, env) })
	return key
}

// copies lets the hub's plan be these.
func (h *fakeHub) copies(all ...*pb.Copy) {
	h.see(func() { h.plan = func(*pb.Outline) *pb.Plan { return &pb.Plan{DirectoryRevision: 1, Copies: all} } })
}

func toB(flow pb.Flow, persons ...string) *pb.Copy {
	return &pb.Copy{Member: "terminal-b", Flow: flow, Named: flow == pb.Flow_FLOW_AUTHORITY, Persons: persons}
}

// secret is a report that the hub must not read.
func secret(label pb.TlpLabel, parts ...*pb.Part) *pb.Report {
	r := draft("件名 "+canary, parts...)
	r.Tlp, r.Summary, r.Response = label, "概要 "+canary, canary
	r.Recipients = []*pb.Recipient{{Member: "terminal-b"}}
	if label == pb.TlpLabel_TLP_LABEL_RED {
		r.Recipients[0].Person = "sato"
	}
	return r
}

const (
	strict = pb.TlpLabel_TLP_LABEL_AMBER_STRICT
	red    = pb.TlpLabel_TLP_LABEL_RED
)

// writer is a running node with a profile.
func (h *fakeHub) writer(t testing.TB) *runningNode {
	t.Helper()
	n := h.run(t, h.join(t))
	require.NoError(t, n.store.setProfile(t.Context(), memberProfile(), true))
	return n
}

// sends publishes and waits for the hub's answer.
func (n *runningNode) sends(t testing.TB, r *pb.Report) *pb.OutboxItem {
	t.Helper()
	resp, err := n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: r, Wait: durationpb.New(20 * time.Second)})
	require.NoError(t, err)
	return resp.GetItem()
}

// opens opens what the hub has of a report with a key of terminal-b.
func (h *fakeHub) opens(t testing.TB, report string, c *pb.Copy, key *seal.PrivateKey) (*pb.Report, [][]byte) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sealed[report]
	require.NotNil(t, s)
	l, err := lockIn(s.GetOutline().GetLane(), &pb.Delivery{ReportId: report, Lane: s.GetOutline().GetLane(), Copy: c}, s.GetOutline(), s.GetVariants(), s.GetWraps())
	require.NoError(t, err)
	for _, w := range l.wraps {
		if w.GetKeyId() != key.Public().ID() {
			continue
		}
		r, _, contentKey, err := l.unlock(w, key, h.parts[string(l.variant.GetContent().GetDigest())])
		require.NoError(t, err)
		var parts [][]byte
		for i, p := range l.variant.GetParts() {
			plain, err := seal.OpenContent(contentKey, l.about(), seal.PartPurpose(i), h.parts[string(p.GetDigest())])
			require.NoError(t, err)
			digest := sha256.Sum256(plain)
			require.Equal(t, r.Parts()[i].GetDigest(), digest[:])
			parts = append(parts, plain)
		}
		return r, parts
	}
	require.Fail(t, "no wrap for the key")
	return nil, nil
}

func (h *fakeHub) requireNoWord(t testing.TB, words ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Empty(t, h.wrong)
	var seen [][]byte
	for _, s := range h.sealed {
		b, err := proto.Marshal(s)
		require.NoError(t, err)
		seen = append(seen, b)
	}
	for _, data := range h.parts {
		seen = append(seen, data)
	}
	require.NotEmpty(t, seen)
	for _, b := range seen {
		for _, w := range words {
			require.False(t, bytes.Contains(b, []byte(w)), "the hub sees %q", w)
		}
	}
}

func TestTheHubLearnsNoWordOfASealedReportAndItsRecipientsAllOfIt(t *testing.T) {
	for label, person := range map[pb.TlpLabel]string{strict: "", red: "sato"} {
		t.Run(label.String(), func(t *testing.T) {
			h := newFakeHub(t, GRPC)
			key := h.published(t, person)
			other := h.published(t, "suzuki")
			c := toB(pb.Flow_FLOW_AUTHORITY)
			if person != "" {
				c.Persons = []string{person}
			}
			h.copies(c)
			n := h.writer(t)
			item := n.sends(t, secret(label, n.addPart(t, "log "+canary), n.addPart(t, "trace "+canary)))
			require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState(), "%v", item)
			h.requireNoWord(t, canary, "kanaria", "東ターミナル", "港 一郎", "own.txt")
			r, parts := h.opens(t, item.GetReport(), c, key)
			require.Equal(t, "件名 "+canary, r.GetTitle())
			require.Equal(t, "東ターミナル", r.GetReporter().GetOrganisation())
			require.Equal(t, [][]byte{[]byte("log " + canary), []byte("trace " + canary)}, parts)
			h.see(func() {
				for _, w := range h.sealed[item.GetReport()].GetWraps() {
					require.NotEqual(t, other.Public().ID(), w.GetKeyId(), "nobody else has a wrap")
				}
			})
			// The ciphertexts are not kept twice.
			var left int
			require.NoError(t, n.store.read.QueryRow(`SELECT count(*) FROM outbox_sealed`).Scan(&left))
			require.Zero(t, left)
			own, err := n.GetReport(t.Context(), &pb.GetReportRequest{Report: item.GetReport()})
			require.NoError(t, err)
			require.Equal(t, "件名 "+canary, own.GetReport().GetTitle(), "the source reads its own")
		})
	}
}

func TestPeersGetASealedProjectionWithoutTheSource(t *testing.T) {
	h := newFakeHub(t, GRPC)
	key := h.published(t, "")
	h.copies(toB(pb.Flow_FLOW_PEER))
	n := h.writer(t)
	r := secret(strict)
	r.AttackTechnical = &pb.AttackTechnical{Malware: []string{"LockBit"}, Text: "SMB を使う"}
	plan, err := n.PlanReport(t.Context(), &pb.NodeServicePlanReportRequest{Report: r})
	require.NoError(t, err)
	require.Contains(t, plan.GetPlan().GetCopies()[0].GetWithheld(), "title")
	item := n.sends(t, r)
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState(), "%v", item)
	got, _ := h.opens(t, item.GetReport(), toB(pb.Flow_FLOW_PEER), key)
	require.Equal(t, []string{"LockBit"}, got.GetAttackTechnical().GetMalware())
	require.Empty(t, got.GetTitle())
	require.Nil(t, got.GetReporter())
	plain, err := proto.Marshal(got)
	require.NoError(t, err)
	for _, w := range []string{canary, "東ターミナル", "港 一郎"} {
		require.NotContains(t, string(plain), w)
	}
	h.requireNoWord(t, canary, "LockBit", "東ターミナル")
}

// The preview refuses what sending would refuse, in the same words.
func TestWhatCannotBeSealedIsRefusedInThePreviewAndInTheOutbox(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(t *testing.T, h *fakeHub, n *runningNode)
		report  func() *pb.Report
		reason  string
		field   string
		says    string
	}{
		"a name of the source remains": {
			func(t *testing.T, h *fakeHub, _ *runningNode) { h.published(t, ""); h.copies(toB(pb.Flow_FLOW_PEER)) },
			func() *pb.Report {
				r := secret(strict)
				r.AttackTechnical = &pb.AttackTechnical{Text: "東ターミナルの端末から"}
				return r
			}, "NAME_REMAINS", "attack_technical.text", "東ターミナル",
		},
		"nothing remains": {
			func(t *testing.T, h *fakeHub, _ *runningNode) { h.published(t, ""); h.copies(toB(pb.Flow_FLOW_PEER)) },
			func() *pb.Report { return secret(strict) }, "NOTHING_REMAINS", "recipients", "--peer-damage",
		},
		"a member without a key": {
			func(_ *testing.T, h *fakeHub, _ *runningNode) { h.copies(toB(pb.Flow_FLOW_AUTHORITY)) },
			func() *pb.Report { return secret(strict) }, "RECIPIENT_HAS_NO_KEY", "recipients", "terminal-b",
		},
		"a person without a key": {
			func(t *testing.T, h *fakeHub, _ *runningNode) {
				h.published(t, "")
				h.published(t, "suzuki")
				h.copies(toB(pb.Flow_FLOW_AUTHORITY, "sato"))
			},
			func() *pb.Report { return secret(red) }, "RECIPIENT_HAS_NO_KEY", "recipients", "terminal-b/sato",
		},
		"a key that nobody of the member has signed": {
			func(t *testing.T, h *fakeHub, _ *runningNode) {
				h.published(t, "", h.key)
				h.copies(toB(pb.Flow_FLOW_AUTHORITY))
			},
			func() *pb.Report { return secret(strict) }, "RECIPIENT_HAS_NO_KEY", "recipients", "terminal-b",
		},
		"a person's key that has changed": {
			func(t *testing.T, h *fakeHub, n *runningNode) {
				h.published(t, "sato")
				require.NoError(t, n.fetchDirectory(t.Context()))
				h.published(t, "sato")
				h.copies(toB(pb.Flow_FLOW_AUTHORITY, "sato"))
			},
			func() *pb.Report { return secret(red) }, "KEY_CHANGED", "recipients", "--confirm-key terminal-b/sato",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHub(t, GRPC)
			n := h.writer(t)
			test.prepare(t, h, n)
			require.NoError(t, n.fetchDirectory(t.Context()))
			_, err := n.PlanReport(t.Context(), &pb.NodeServicePlanReportRequest{Report: test.report()})
			refusal, ok := rpc.RefusalOf(err)
			require.True(t, ok, "%v", err)
			require.Equal(t, test.reason, refusal.Reason)
			require.Equal(t, codes.FailedPrecondition, refusal.Code)
			item := n.sends(t, test.report())
			require.Equal(t, pb.OutboxState_OUTBOX_STATE_REFUSED, item.GetState())
			require.Equal(t, test.reason, item.GetRefusal().GetReason())
			v := item.GetRefusal().GetViolations()[0]
			require.Equal(t, test.field, v.GetField())
			require.Contains(t, v.GetEnglish()+v.GetJapanese(), test.says)
			require.NotEmpty(t, v.GetJapanese())
			require.NotEmpty(t, v.GetEnglish())
			h.see(func() { require.Empty(t, h.sealed) })
		})
	}
}

func TestTheContentOfASealedReportIsCheckedBeforeItIsQueued(t *testing.T) {
	n := author(t)
	r := secret(red)
	r.Recipients = []*pb.Recipient{{Member: "terminal-b"}}
	r.Title = strings.Repeat("x", 301)
	for _, err := range []error{
		func() error {
			_, err := n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: r})
			return err
		}(),
		func() error {
			_, err := n.PlanReport(t.Context(), &pb.NodeServicePlanReportRequest{Report: r})
			return err
		}(),
	} {
		refusal, ok := rpc.RefusalOf(err)
		require.True(t, ok, "%v", err)
		require.Equal(t, codes.InvalidArgument, refusal.Code)
		var reasons []string
		for _, v := range refusal.Violations {
			reasons = append(reasons, v.Reason)
		}
		require.ElementsMatch(t, []string{"TEXT_TOO_LONG", "RED_NEEDS_PERSONS"}, reasons, "all at once")
	}
	c, err := n.store.counts(t.Context())
	require.NoError(t, err)
	require.Zero(t, c.queued)
}

func TestAConfirmedKeyIsSealedToAgain(t *testing.T) {
	h := newFakeHub(t, GRPC)
	h.copies(toB(pb.Flow_FLOW_AUTHORITY, "sato"))
	h.published(t, "sato")
	n := h.writer(t)
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, n.sends(t, secret(red)).GetState())
	second := h.published(t, "sato")
	require.NoError(t, n.fetchDirectory(t.Context()))
	require.Equal(t, "KEY_CHANGED", n.sends(t, secret(red)).GetRefusal().GetReason())
	resp, err := n.ConfirmKey(t.Context(), &pb.ConfirmKeyRequest{Member: "terminal-b", Person: "sato"})
	require.NoError(t, err)
	require.Equal(t, []string{second.Public().Fingerprint()}, resp.GetFingerprints())
	item := n.sends(t, secret(red))
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState())
	h.opens(t, item.GetReport(), toB(pb.Flow_FLOW_AUTHORITY, "sato"), second)
	_, err = n.ConfirmKey(t.Context(), &pb.ConfirmKeyRequest{Member: "terminal-b", Person: "nobody"})
	require.ErrorContains(t, err, "minato members")
}

// A node renews its key by itself; nobody telephones for that. What another
// signing key vouches for is another matter.
func TestANodesNewKeyIsTakenWhenItsSigningKeyVouchesForIt(t *testing.T) {
	h := newFakeHub(t, GRPC)
	h.copies(toB(pb.Flow_FLOW_AUTHORITY))
	h.published(t, "")
	n := h.writer(t)
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, n.sends(t, secret(strict)).GetState())
	second := h.published(t, "")
	require.NoError(t, n.fetchDirectory(t.Context()))
	item := n.sends(t, secret(strict))
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState())
	h.opens(t, item.GetReport(), toB(pb.Flow_FLOW_AUTHORITY), second)

	_, foreign, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	h.see(func() { h.source = foreign })
	h.published(t, "")
	require.NoError(t, n.fetchDirectory(t.Context()))
	require.Equal(t, "KEY_CHANGED", n.sends(t, secret(strict)).GetRefusal().GetReason())
}

func TestAnExpiredKeyIsNotSealedTo(t *testing.T) {
	h := newFakeHub(t, GRPC)
	h.copies(toB(pb.Flow_FLOW_AUTHORITY))
	h.published(t, "")
	n := h.writer(t)
	require.NoError(t, n.fetchDirectory(t.Context()))
	now := time.Now()
	book, err := n.openKeybook(t.Context())
	require.NoError(t, err)
	holders, bad := book.holdersOf(toB(pb.Flow_FLOW_AUTHORITY), now)
	require.Empty(t, bad)
	require.Len(t, holders, 1)
	holders, bad = book.holdersOf(toB(pb.Flow_FLOW_AUTHORITY), now.Add(keyLife+time.Hour))
	require.Empty(t, holders)
	require.Equal(t, "RECIPIENT_HAS_NO_KEY", bad[0].Reason)
}

func TestAChangedDecisionIsSealedForAgain(t *testing.T) {
	h := newFakeHub(t, GRPC)
	h.published(t, "")
	sato, suzuki := h.published(t, "sato"), h.published(t, "suzuki")
	h.copies(toB(pb.Flow_FLOW_AUTHORITY, "sato"))
	n := h.writer(t)
	// The decision changes after the node has asked for it.
	h.fail(callSubmit, func(_ context.Context, do func() error) error {
		h.copies(toB(pb.Flow_FLOW_AUTHORITY, "sato", "suzuki"))
		return do()
	})
	item := n.sends(t, secret(red))
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState(), "%v", item)
	require.Equal(t, 2, h.count(callSubmit))
	for _, key := range []*seal.PrivateKey{sato, suzuki} {
		h.opens(t, item.GetReport(), toB(pb.Flow_FLOW_AUTHORITY, "sato", "suzuki"), key)
	}
}

// A decision that never stands still is not chased for ever at once, and the
// report stays in the outbox.
func TestADecisionThatKeepsChangingIsTriedLater(t *testing.T) {
	h := newFakeHub(t, GRPC)
	h.published(t, "")
	h.copies(toB(pb.Flow_FLOW_AUTHORITY))
	changed := func(context.Context, func() error) error {
		return rpc.Refuse(codes.FailedPrecondition, "PLAN_CHANGED", "wraps", "変わりました。", "It has changed.")
	}
	h.fail(callSubmit, changed, changed, changed, changed)
	n := h.writer(t)
	item := n.sends(t, secret(strict))
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState(), "%v", item)
	require.Equal(t, 5, h.count(callSubmit))
	row, err := n.store.outboxRow(t.Context(), item.GetReport())
	require.NoError(t, err)
	require.Equal(t, 1, row.tries)
}

// TestASealedReportIsNeverLostAndSentOnceWhateverBecomesOfACall loses, refuses
// and delays each call of a sealed submit, ends the node at that moment, and
// starts it again from its disk.
func TestASealedReportIsNeverLostAndSentOnceWhateverBecomesOfACall(t *testing.T) {
	outcomes := map[string]fault{
		"lost on the way": lostOnTheWay, "answer lost": answerLost, "refused": refusedByHub, "answered late": answerLate,
	}
	for _, call := range []string{callPlan, callUpload, callSubmit} {
		for outcome, f := range outcomes {
			t.Run(call+" "+outcome, func(t *testing.T) {
				t.Parallel()
				h := newFakeHub(t, GRPC)
				key := h.published(t, "")
				h.fail(call, f)
				dir := h.join(t)
				n := h.run(t, dir)
				require.NoError(t, n.store.setProfile(t.Context(), memberProfile(), true))
				id := n.publish(t, secret(strict, n.addPart(t, "log "+canary)))
				eventually(t, func() (met bool) {
					h.see(func() { met = h.taken[call] > 0 })
					return met
				}, "%s is called", call)
				if outcome == "refused" {
					eventually(t, func() bool { return n.stateOf(t, id) == pb.OutboxState_OUTBOX_STATE_REFUSED }, "refused")
				}
				n.end()
				n = h.run(t, dir)
				eventually(t, func() bool { return h.atRest(n) }, "all settles")
				n.end()
				requireKept(t, h, dir, []string{id})
				if outcome != "refused" {
					h.requireNoWord(t, canary)
					_, parts := h.opens(t, id, toB(pb.Flow_FLOW_AUTHORITY), key)
					require.Equal(t, [][]byte{[]byte("log " + canary)}, parts)
				}
			})
		}
	}
}

func TestASealedReportWaitsInTheOutboxWhileTheHubIsAway(t *testing.T) {
	h := newFakeHub(t, GRPC)
	key := h.published(t, "")
	dir := h.join(t)
	h.bar(true)
	n := h.run(t, dir)
	require.NoError(t, n.store.setProfile(t.Context(), memberProfile(), false))
	r := secret(strict)
	r.ReportId = randomID()
	id := r.GetReportId()
	// It says why it waits, when the first try has been refused already.
	_, _ = n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: r})
	row, err := n.store.outboxRow(t.Context(), id)
	require.NoError(t, err, "it is kept in any case")
	require.True(t, row.sealed)
	require.Empty(t, row.envelope, "it is sealed when the recipients are known")
	h.bar(false)
	eventually(t, func() bool { return n.stateOf(t, id) == pb.OutboxState_OUTBOX_STATE_ACCEPTED }, "accepted")
	h.opens(t, id, toB(pb.Flow_FLOW_AUTHORITY), key)
}

// aLetter is one sealed delivery as a test wants it spoilt.
type aLetter struct {
	copy    *pb.Copy                // nil is a whole and named copy
	byHub   bool                    // a sealed copy, signed by the hub
	parts   []string                // attachments
	inner   func(*pb.Report)        // changes what is sealed
	content func(*pb.SealedContent) // changes the seal's inside
	header  func(*pb.SealedReport)  // changes what is signed
	outer   func(*pb.Delivery)      // changes what is delivered
	hub     func(map[string][]byte) // changes the hub's shelf
	wrap    func(*seal.Holder)      // changes for whom the key is wrapped
	late    func(*pb.Instruction)   // the wraps come by an instruction
	form    func(*pb.Instruction, *pb.SealedReport)
	signer  func() ed25519.PrivateKey // signs the instruction
}

// sound is a report that passes every check.
func sound(t testing.TB, title string, label pb.TlpLabel, persons ...string) *pb.Report {
	t.Helper()
	id := newID(t)
	r := &pb.Report{
		ReportId: id, CaseId: id, Sequence: 1, Stage: pb.Stage_STAGE_PRELIMINARY, Lane: liveLane, Tlp: label, Title: title, Summary: "概要 " + title,
		Kind: pb.Kind_KIND_INCIDENT, Recipients: []*pb.Recipient{{Member: "terminal-a"}},
	}
	if len(persons) > 0 {
		r.Recipients = nil
	}
	for _, p := range persons {
		r.Recipients = append(r.Recipients, &pb.Recipient{Member: "terminal-a", Person: p})
	}
	p := memberProfile()
	p.Organisation = "西ターミナル"
	fillIdentity(r, p)
	fillUnknown(r, time.Now().Truncate(time.Second))
	return r
}

// post seals a report of terminal-b to a key of terminal-a and delivers it.
func (h *fakeHub) post(t testing.TB, r *pb.Report, to *seal.PublicKey, a aLetter) string {
	t.Helper()
	if a.copy == nil {
		a.copy = &pb.Copy{Flow: pb.Flow_FLOW_AUTHORITY, Named: true}
		for _, recipient := range r.GetRecipients() {
			if recipient.GetPerson() != "" {
				a.copy.Persons = append(a.copy.Persons, recipient.GetPerson())
			}
		}
	}
	c := proto.CloneOf(a.copy)
	c.Member = "terminal-a"
	for i, data := range a.parts {
		sum := sha256.Sum256([]byte(data))
		r.Attachments = append(r.Attachments, &pb.Part{Digest: sum[:], Size: uint64(len(data)), Name: "log.txt", Class: pb.DisclosureClass(1 + i%2)})
	}
	outline := proto.CloneOf(r.Outline())
	if a.inner != nil {
		a.inner(r)
	}
	v := seal.Variant{Report: outline.GetReportId(), Lane: outline.GetLane(), Flow: c.GetFlow(), Named: c.GetNamed()}
	key := seal.NewContentKey()
	shelf := map[string][]byte{}
	put := func(purpose string, plain []byte) *pb.Part {
		sealed, err := seal.SealContent(key, v, purpose, plain)
		require.NoError(t, err)
		sum := sha256.Sum256(sealed)
		shelf[string(sum[:])] = sealed
		return &pb.Part{Digest: sum[:], Size: uint64(len(sealed))}
	}
	variant, content := &pb.SealedVariant{Flow: c.GetFlow(), Named: c.GetNamed()}, &pb.SealedContent{Salt: seal.NewSalt()}
	for i, data := range a.parts {
		p := put(seal.PartPurpose(i), []byte(data))
		variant.Parts, content.SealedParts = append(variant.Parts, p), append(content.SealedParts, p.GetDigest())
	}
	var err error
	content.Report, err = proto.Marshal(r)
	require.NoError(t, err)
	variant.Commitment = seal.Commitment(content.GetSalt(), content.GetReport())
	if a.content != nil {
		a.content(content)
	}
	plain, err := proto.Marshal(content)
	require.NoError(t, err)
	variant.Content = put(seal.Content, plain)
	holder := seal.Holder{Member: "terminal-a", Node: 1}
	if len(c.GetPersons()) > 0 {
		holder = seal.Holder{Member: "terminal-a", Person: c.GetPersons()[0]}
	}
	w := &pb.Wrap{Member: holder.Member, Person: holder.Person, Node: holder.Node, KeyId: to.ID()}
	if a.wrap != nil {
		a.wrap(&holder)
	}
	w.SealedKey, err = seal.Wrap(to, key, v, variant.GetContent().GetDigest(), holder)
	require.NoError(t, err)
	s := &pb.SealedReport{Outline: outline, Suite: seal.SealedSuite(seal.MLKEM768P256), Variants: []*pb.SealedVariant{variant}, Wraps: []*pb.Wrap{w}}
	d := &pb.Delivery{Source: "terminal-b", SourceName: "西ターミナル", SourceKey: h.source.Public().(ed25519.PublicKey)}
	if a.late != nil {
		i := &pb.Instruction{Lane: outline.GetLane(), ReportId: outline.GetReportId(), InstructionId: newID(t),
			Action: &pb.Instruction_Forward{Forward: &pb.Forward{Recipients: r.GetRecipients(), Wraps: s.GetWraps()}}}
		s.Wraps = nil
		a.late(i)
		if a.form != nil {
			a.form(i, s)
		}
		signer := h.source
		if a.signer != nil {
			signer = a.signer()
		}
		d.Instruction, err = seal.SignInstruction(signer, i)
		require.NoError(t, err)
	}
	if a.header != nil {
		a.header(s)
	}
	payload, err := proto.Marshal(s)
	require.NoError(t, err)
	if d.Envelope = seal.Sign(h.source, seal.SealedReportType(outline.GetLane()), payload); a.byHub {
		d.Envelope = seal.Sign(h.key, seal.SealedCopyType(outline.GetLane()), payload)
		d.Source, d.SourceName, d.SourceKey = "", "", nil
	}
	if a.hub != nil {
		a.hub(shelf)
	}
	h.see(func() {
		for digest, data := range shelf {
			h.parts[digest] = data
		}
	})
	base := &pb.Report{ReportId: outline.GetReportId(), Lane: outline.GetLane()}
	return h.deliver(t, base, func(to *pb.Delivery) {
		to.Envelope, to.Source, to.SourceName, to.SourceKey, to.Instruction, to.Copy = d.Envelope, d.Source, d.SourceName, d.SourceKey, d.Instruction, c
		if a.outer != nil {
			a.outer(to)
		}
	})
}

// answer waits for the receipt of a delivery.
func (h *fakeHub) answer(t testing.TB, report string) *pb.DeliveryReceipt {
	t.Helper()
	var r *pb.DeliveryReceipt
	eventually(t, func() bool {
		h.see(func() {
			for _, got := range h.lanes[liveLane].receipts {
				if got.GetReportId() == report {
					r = got
				}
			}
		})
		return r != nil
	}, "a receipt for %s", report)
	return r
}

func personKey(t testing.TB, n *runningNode, person string, here bool) *seal.PrivateKey {
	t.Helper()
	key, err := seal.GenerateKey(seal.MLKEM768P256)
	require.NoError(t, err)
	req := &pb.SetPersonKeyRequest{Person: person, Suite: key.Suite(), PublicKey: key.Public().Bytes()}
	if here {
		req.PrivateKey, err = key.Bytes()
		require.NoError(t, err)
	}
	resp, err := n.SetPersonKey(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, key.Public().Fingerprint(), resp.GetFingerprint())
	return key
}

func TestASealedDeliveryIsOpenedWithTheKeyOfTheNodeOrOfThePerson(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.writer(t)
	ciso := personKey(t, n, "ciso", true)
	byNode := h.post(t, sound(t, "組織宛", strict), n.keys.current().Public(), aLetter{parts: []string{"log", "trace"}})
	byPerson := h.post(t, sound(t, "本人宛", red, "ciso"), ciso.Public(), aLetter{parts: []string{"memo"}})
	for id, want := range map[string]string{byNode: "組織宛", byPerson: "本人宛"} {
		r := h.answer(t, id)
		require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, r.GetState(), "%v", r)
		got, err := n.GetReport(t.Context(), &pb.GetReportRequest{Report: id})
		require.NoError(t, err)
		require.Equal(t, want, got.GetReport().GetTitle())
		require.Equal(t, want, got.GetReceived().GetTitle())
		require.False(t, got.GetReceived().GetSealed())
		require.Equal(t, "terminal-b", got.GetReceived().GetSource())
		for _, p := range got.GetReceived().GetParts() {
			data, err := n.store.readPart(t.Context(), p.GetDigest())
			require.NoError(t, err)
			sum := sha256.Sum256(data)
			require.Equal(t, p.GetDigest(), sum[:])
		}
		found, err := n.SearchInbox(t.Context(), &pb.SearchInboxRequest{Query: want})
		require.NoError(t, err)
		require.Len(t, found.GetItems(), 1)
		_, err = n.GetSealed(t.Context(), &pb.GetSealedRequest{Report: id})
		require.ErrorContains(t, err, "not sealed")
	}
	got, err := n.store.item(t.Context(), liveLane, byPerson)
	require.NoError(t, err)
	require.Equal(t, "TLP:RED", got.GetTlp())
	require.Equal(t, []string{"ciso"}, got.GetPersons())
}

func TestWhatIsSealedToAPersonElsewhereIsKeptForThatPerson(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	n := h.run(t, dir)
	require.NoError(t, n.store.setProfile(t.Context(), memberProfile(), true))
	ciso := personKey(t, n, "ciso", false)
	r := sound(t, canary, red, "ciso")
	r.Restrictions = &pb.Restrictions{NoCopy: true}
	id := h.post(t, r, ciso.Public(), aLetter{parts: []string{"memo"}})
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, id).GetState())
	n.end()
	n = h.run(t, dir)
	got, err := n.GetReport(t.Context(), &pb.GetReportRequest{Report: id})
	require.NoError(t, err)
	require.Nil(t, got.GetReport())
	item := got.GetReceived()
	require.True(t, item.GetSealed())
	require.Empty(t, item.GetTitle()+item.GetText())
	require.Equal(t, []string{"ciso"}, item.GetPersons())
	require.Equal(t, "TLP:RED", item.GetTlp())
	require.True(t, item.GetRestrictions().GetNoCopy())
	require.Equal(t, pb.Kind_KIND_INCIDENT, item.GetKind())
	found, err := n.SearchInbox(t.Context(), &pb.SearchInboxRequest{Query: "kanaria"})
	require.NoError(t, err)
	require.Empty(t, found.GetItems())
	dropped, err := n.store.dropUnusedParts(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Zero(t, dropped, "the ciphertext is kept")

	sealed, err := n.GetSealed(t.Context(), &pb.GetSealedRequest{Report: id[:8]})
	require.NoError(t, err)
	require.NotContains(t, string(sealed.GetContent()), "kanaria")
	opened, err := OpenSealed(sealed.GetDelivery(), sealed.GetContent(), "ciso", ciso)
	require.NoError(t, err)
	require.Equal(t, canary, opened.GetTitle())
	stranger, err := seal.GenerateKey(seal.MLKEM768P256)
	require.NoError(t, err)
	_, err = OpenSealed(sealed.GetDelivery(), sealed.GetContent(), "ciso", stranger)
	require.ErrorContains(t, err, "not sealed to key")
	_, err = OpenSealed(sealed.GetDelivery(), sealed.GetContent(), "other", ciso)
	require.Error(t, err)
	for i := range sealed.GetContent() {
		spoilt := bytes.Clone(sealed.GetContent())
		spoilt[i] ^= 1
		_, err = OpenSealed(sealed.GetDelivery(), spoilt, "ciso", ciso)
		require.Error(t, err)
	}
	_, err = n.Acknowledge(t.Context(), &pb.AcknowledgeRequest{Report: id, Reaction: pb.Reaction_REACTION_SEEN})
	require.NoError(t, err, "a person reacts to what the node cannot read")
}

func TestASealedCopyThatTheHubHasSignedNamesNobody(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.writer(t)
	r := sound(t, "x", strict)
	peer := &pb.Copy{Flow: pb.Flow_FLOW_PEER}
	cut := func(r *pb.Report) {
		r.Title, r.Summary, r.Reporter, r.Place, r.Impact, r.Recovery, r.Recipients = "", "", nil, nil, nil, nil, nil
		r.Event = &pb.Event{Types: []pb.EventType{pb.EventType_EVENT_TYPE_MALWARE, pb.EventType_EVENT_TYPE_INTRUSION}}
		r.AttackTechnical = &pb.AttackTechnical{Malware: []string{"LockBit"}, Text: "SMB を使う"}
	}
	header := func(s *pb.SealedReport) { s.Outline.Facts, s.Outline.Recipients = nil, nil }
	id := h.post(t, r, n.keys.current().Public(), aLetter{copy: peer, byHub: true, inner: cut, header: header})
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, id).GetState(), "%v", h.answer(t, id))
	item, err := n.store.item(t.Context(), liveLane, id)
	require.NoError(t, err)
	require.Empty(t, item.GetSource()+item.GetSourceName())
	require.False(t, item.GetNamed())
	require.Equal(t, "【攻撃技術情報】マルウェア等の感染・システム等への侵入", item.GetTitle())
	require.Equal(t, "SMB を使う", item.GetText())
	whole := h.post(t, sound(t, "x", strict), n.keys.current().Public(), aLetter{byHub: true})
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_REJECTED, h.answer(t, whole).GetState(), "a whole report is its source's to sign")
}

// TestWhatDoesNotAgreeIsRejectedAndNeverShownAsAReport spoils one thing at a
// time in a sealed delivery.
func TestWhatDoesNotAgreeIsRejectedAndNeverShownAsAReport(t *testing.T) {
	for name, test := range map[string]struct {
		letter aLetter
		says   string
	}{
		"another label inside":       {aLetter{inner: func(r *pb.Report) { r.Tlp = pb.TlpLabel_TLP_LABEL_CLEAR }}, "header and content differ"},
		"another label outside":      {aLetter{header: func(s *pb.SealedReport) { s.Outline.Tlp = red }}, "named persons"},
		"other restrictions inside":  {aLetter{inner: func(r *pb.Report) { r.Restrictions = &pb.Restrictions{NoCopy: true} }}, "header and content differ"},
		"other facts outside":        {aLetter{header: func(s *pb.SealedReport) { s.Outline.Facts = append(s.Outline.Facts, pb.Fact_FACT_PEER_DAMAGE) }}, "header and content differ"},
		"another id inside":          {aLetter{inner: func(r *pb.Report) { r.ReportId = r.ReportId[1:] + "0" }}, "header and content differ"},
		"another lane inside":        {aLetter{inner: func(r *pb.Report) { r.Lane = exerciseLane }}, "header and content differ"},
		"unsound inside":             {aLetter{inner: func(r *pb.Report) { r.Title = "" }}, "not sound: title"},
		"not what was committed to":  {aLetter{content: func(c *pb.SealedContent) { c.Salt[0] ^= 1 }}, "committed"},
		"a report put in its place":  {aLetter{content: func(c *pb.SealedContent) { c.Report = append(c.Report, 0x0a, 0x00) }}, "committed"},
		"no salt":                    {aLetter{content: func(c *pb.SealedContent) { c.Salt = nil }}, "committed"},
		"a label that needs no seal": {aLetter{header: func(s *pb.SealedReport) { s.Outline.Tlp = pb.TlpLabel_TLP_LABEL_AMBER }}, "label that is not sealed"},
		"a wrap of another holder":   {aLetter{wrap: func(h *seal.Holder) { h.Node = 2 }}, "content key"},
		"a wrap that was changed":    {aLetter{header: func(s *pb.SealedReport) { s.Wraps[0].SealedKey[3] ^= 1 }}, "content key"},
		"no wrap for us":             {aLetter{header: func(s *pb.SealedReport) { s.Wraps[0].Member = "mlit" }}, "nothing in the sealed report"},
		"no variant for us":          {aLetter{header: func(s *pb.SealedReport) { s.Variants[0].Flow = pb.Flow_FLOW_PEER }}, "nothing in the sealed report"},
		"a part less":                {aLetter{parts: []string{"log"}, header: func(s *pb.SealedReport) { s.Variants[0].Parts = nil }}, "different parts"},
		"a part less inside":         {aLetter{parts: []string{"log"}, content: func(c *pb.SealedContent) { c.SealedParts = nil }}, "different parts"},
		"parts that changed places": {aLetter{parts: []string{"log", "trace"}, header: func(s *pb.SealedReport) {
			p := s.Variants[0].Parts
			p[0], p[1] = p[1], p[0]
		}}, "different parts"},
		"other bytes of a part": {aLetter{parts: []string{"log"}, inner: func(r *pb.Report) { r.Attachments[0].Digest[0] ^= 1 }}, "do not match their digest"},
		"for another member":    {aLetter{outer: func(d *pb.Delivery) { d.Copy.Member = "mlit" }}, "another member"},
		"by nobody":             {aLetter{outer: func(d *pb.Delivery) { d.Envelope.Signatures[0].Signature[0] ^= 1 }}, "signature does not verify"},
		"by a stranger":         {aLetter{outer: func(d *pb.Delivery) { d.SourceKey[0] ^= 1 }}, "not by a key of the source"},
		"as an exercise":        {aLetter{outer: func(d *pb.Delivery) { d.Envelope.PayloadType = seal.ExerciseSealedReportType }}, "payload type differs"},
		"an unknown suite":      {aLetter{header: func(s *pb.SealedReport) { s.Suite = "ROT13" }}, "suite is not known"},
		"an instruction by another": {aLetter{late: func(*pb.Instruction) {}, signer: func() ed25519.PrivateKey {
			_, key, _ := ed25519.GenerateKey(nil)
			return key
		}}, "not by the source"},
		"an instruction for another":   {aLetter{late: func(i *pb.Instruction) { i.ReportId = i.ReportId[1:] + "0" }}, "for something else"},
		"an instruction without wraps": {aLetter{late: func(i *pb.Instruction) { i.GetForward().Wraps = nil }}, "nothing in the sealed report"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHub(t, GRPC)
			log := newLog()
			n := h.run(t, h.join(t), log.logger())
			id := h.post(t, sound(t, canary, strict), n.keys.current().Public(), test.letter)
			r := h.answer(t, id)
			require.Equal(t, pb.ReceiptState_RECEIPT_STATE_REJECTED, r.GetState())
			require.Contains(t, r.GetReason(), test.says)
			_, err := n.store.item(t.Context(), liveLane, id)
			require.ErrorIs(t, err, errNotFound)
			status, err := n.GetStatus(t.Context(), &pb.GetStatusRequest{})
			require.NoError(t, err)
			require.Len(t, status.GetWarnings(), 1)
			require.Contains(t, status.GetWarnings()[0], id)
			for _, said := range append(status.GetWarnings(), r.GetReason(), log.String()) {
				require.NotContains(t, said, "kanaria")
			}
			good := h.post(t, sound(t, "続く報告", strict), n.keys.current().Public(), aLetter{})
			require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, good).GetState(), "it stands in nobody's way")
		})
	}
}

func TestCiphertextsThatTheHubChangedAreNeverOpened(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.run(t, h.join(t))
	id := h.post(t, sound(t, canary, strict), n.keys.current().Public(), aLetter{hub: func(shelf map[string][]byte) {
		for digest, data := range shelf {
			shelf[digest] = append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1)
		}
	}})
	r := h.answer(t, id)
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_REJECTED, r.GetState())
	require.Contains(t, r.GetReason(), "digest")
}

func TestLateWrapsOfTheSourceOpenAReport(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.run(t, h.join(t))
	id := h.post(t, sound(t, "後から", strict), n.keys.current().Public(), aLetter{late: func(*pb.Instruction) {}})
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, id).GetState(), "%v", h.answer(t, id))
	// A further form of the content may come with them: the report itself has
	// one for others only.
	id = h.post(t, sound(t, "別の形", strict), n.keys.current().Public(), aLetter{
		late: func(i *pb.Instruction) { i.GetForward().Wraps[0].Variant = 1 },
		form: func(i *pb.Instruction, s *pb.SealedReport) {
			i.GetForward().Variants = s.Variants
			s.Variants = []*pb.SealedVariant{proto.CloneOf(s.Variants[0])}
			s.Variants[0].Flow = pb.Flow_FLOW_EXPERT
		},
	})
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, id).GetState(), "%v", h.answer(t, id))
	item, err := n.store.item(t.Context(), liveLane, id)
	require.NoError(t, err)
	require.Equal(t, "別の形", item.GetTitle())
	id = h.post(t, sound(t, "ない形", strict), n.keys.current().Public(), aLetter{
		late: func(i *pb.Instruction) { i.GetForward().Wraps[0].Variant = 1 },
	})
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_REJECTED, h.answer(t, id).GetState(), "a wrap of a form that is not there")
}

func TestASealedReportIsOpenedWhenItComesAgainForAKeyThatIsHere(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.writer(t)
	p := memberProfile()
	p.Persons = append(p.Persons, &pb.Person{Id: "kato", Name: "加藤"})
	require.NoError(t, n.store.setProfile(t.Context(), p, true))
	away, here := personKey(t, n, "ciso", false), personKey(t, n, "kato", true)
	r := sound(t, "二人に", red, "ciso", "kato")
	id := h.post(t, proto.CloneOf(r), away.Public(), aLetter{copy: &pb.Copy{Flow: pb.Flow_FLOW_AUTHORITY, Named: true, Persons: []string{"ciso"}}})
	h.answer(t, id)
	item, err := n.store.item(t.Context(), liveLane, id)
	require.NoError(t, err)
	require.True(t, item.GetSealed())
	h.post(t, r, here.Public(), aLetter{copy: &pb.Copy{Flow: pb.Flow_FLOW_AUTHORITY, Named: true, Persons: []string{"kato"}}})
	eventually(t, func() bool {
		item, err = n.store.item(t.Context(), liveLane, id)
		return err == nil && !item.GetSealed()
	}, "it is open")
	require.Equal(t, "二人に", item.GetTitle())
	require.Equal(t, []string{"ciso", "kato"}, item.GetPersons())
	rows, err := n.store.list(t.Context(), liveLane, 0, maxPage)
	require.NoError(t, err)
	require.Len(t, rows, 1, "shown once")
}

func TestACopyThatTheHubHasBuiltIsHeldAgainstTheHubsKey(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.run(t, h.join(t))
	built := func(key ed25519.PrivateKey, payloadType string, label pb.TlpLabel, alter ...func(*pb.Delivery)) string {
		r := &pb.Report{
			ReportId: newID(t), CaseId: newID(t), Lane: liveLane, Tlp: label, Kind: pb.Kind_KIND_INCIDENT,
			Event: &pb.Event{Types: []pb.EventType{pb.EventType_EVENT_TYPE_LEAK}}, Impact: &pb.Impact{Business: pb.BusinessImpact_BUSINESS_IMPACT_STOPPED},
		}
		return h.deliver(t, r, func(d *pb.Delivery) {
			d.Envelope = seal.Sign(key, payloadType, d.GetEnvelope().GetPayload())
			d.Source, d.SourceName, d.SourceKey = "", "", nil
			d.Copy = &pb.Copy{Member: "terminal-a", Flow: pb.Flow_FLOW_STATUS, Withheld: []string{"title"}, ForwardedBy: "mlit"}
			d.Handling = &pb.Handling{Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Restrictions: &pb.Restrictions{NoExport: true}, SecrecyRegime: pb.SecrecyRegime_SECRECY_REGIME_CONTRACT}
			for _, change := range alter {
				change(d)
			}
		})
	}
	good := built(h.key, seal.LiveCopyType, pb.TlpLabel_TLP_LABEL_GREEN)
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, good).GetState())
	item, err := n.store.item(t.Context(), liveLane, good)
	require.NoError(t, err)
	require.Equal(t, "【事案の状況】情報の漏えい", item.GetTitle())
	require.Equal(t, "TLP:AMBER", item.GetTlp(), "the stricter of label and handling")
	require.True(t, item.GetRestrictions().GetNoExport())
	require.Equal(t, pb.SecrecyRegime_SECRECY_REGIME_CONTRACT, item.GetSecrecyRegime())
	require.Contains(t, item.GetWithheld(), "title")
	require.Contains(t, item.GetWithheld(), "attack_technical", "what its flow lacks, whatever the report has had")
	require.Equal(t, "mlit", item.GetForwardedBy())
	require.False(t, item.GetNamed())
	for name, bad := range map[string]string{
		"by the source":     built(h.source, seal.LiveCopyType, pb.TlpLabel_TLP_LABEL_GREEN),
		"as a whole report": built(h.key, seal.LiveReportType, pb.TlpLabel_TLP_LABEL_GREEN),
		"of the other lane": built(h.key, seal.ExerciseCopyType, pb.TlpLabel_TLP_LABEL_GREEN),
		"of what is sealed": built(h.key, seal.LiveCopyType, strict),
		"of the whole": built(h.key, seal.LiveCopyType, pb.TlpLabel_TLP_LABEL_GREEN, func(d *pb.Delivery) {
			d.Copy.Flow, d.Copy.Named, d.Source, d.SourceName = pb.Flow_FLOW_AUTHORITY, true, "terminal-b", "西ターミナル"
		}),
	} {
		require.Equal(t, pb.ReceiptState_RECEIPT_STATE_REJECTED, h.answer(t, bad).GetState(), name)
	}
}

func TestWarningsAreBounded(t *testing.T) {
	s := newStore(t)
	for i := range maxRejections + 5 {
		r := rejection{lane: liveLane, reportID: newID(t), reason: "signature"}
		require.NoError(t, s.addRejection(t.Context(), r))
		require.NoError(t, s.addRejection(t.Context(), r), "again %d", i)
	}
	all, err := s.rejections(t.Context())
	require.NoError(t, err)
	require.Len(t, all, maxRejections)
	require.False(t, slices.ContainsFunc(all[1:], func(r rejection) bool { return r.at.After(all[0].at) }), "newest first")
}

// A store of the first format takes reports sealed and open after it has been
// opened by this version, and what was there stays as it was.
func TestAStoreOfTheFirstFormatIsBroughtUpToDate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	all := migrations
	migrations = all[:1]
	s, err := openStore(path)
	migrations = all
	require.NoError(t, err)
	d, r := sampleDelivery(t, liveLane, 1, newID(t), "前の版")
	payload, err := proto.Marshal(&pb.InboxItem{Report: r.GetReportId(), Tlp: "TLP:AMBER", Title: "前の版", Source: "terminal-a", Lane: liveLane})
	require.NoError(t, err)
	delivery, err := proto.Marshal(d)
	require.NoError(t, err)
	_, err = s.write.Exec(`INSERT INTO inbox_live (report_id, delivery_sequence, item, delivery) VALUES (?, 1, ?, ?)`, r.GetReportId(), withSum(payload), withSum(delivery))
	require.NoError(t, err)
	row := sampleRow(newID(t))
	item, err := proto.Marshal(&pb.OutboxItem{Report: row.reportID, Case: row.caseID, Seq: 1, Lane: liveLane})
	require.NoError(t, err)
	_, err = s.write.Exec(`INSERT INTO outbox (report_id, case_id, sequence, state, request_id, item, report, envelope) VALUES (?, ?, 1, 1, 'r', ?, ?, ?)`,
		row.reportID, row.caseID, withSum(item), withSum(row.report), withSum(row.envelope))
	require.NoError(t, err)
	require.NoError(t, s.Close())

	s = storeAt(t, path)
	got, err := s.item(t.Context(), liveLane, r.GetReportId())
	require.NoError(t, err)
	require.Equal(t, "前の版", got.GetTitle())
	require.True(t, got.GetNamed())
	report, _, err := s.reportOf(t.Context(), liveLane, r.GetReportId())
	require.NoError(t, err)
	require.Equal(t, r.GetReportId(), report.GetReportId())
	queued, ok, err := s.nextQueued(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, queued.sealed)
	require.Equal(t, row.envelope, queued.envelope)
	require.NoError(t, s.addRejection(t.Context(), rejection{lane: liveLane, reportID: r.GetReportId(), reason: "x"}))
}

// FuzzSealedDelivery reads arbitrary bytes as a sealed delivery and its
// content. Nothing but the one report that was ever sealed to the key comes out.
func FuzzSealedDelivery(f *testing.F) {
	source := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	key, err := seal.NewPrivateKey(seal.DHKEMP256, append(make([]byte, 31), 1))
	require.NoError(f, err)
	r := sound(f, "ただ一つの報告", strict)
	v := seal.Variant{Report: r.GetReportId(), Lane: liveLane, Flow: pb.Flow_FLOW_AUTHORITY, Named: true}
	contentKey, salt := seal.NewContentKey(), seal.NewSalt()
	report, err := proto.Marshal(r)
	require.NoError(f, err)
	plain, err := proto.Marshal(&pb.SealedContent{Salt: salt, Report: report})
	require.NoError(f, err)
	content, err := seal.SealContent(contentKey, v, seal.Content, plain)
	require.NoError(f, err)
	digest := sha256.Sum256(content)
	wrap, err := seal.Wrap(key.Public(), contentKey, v, digest[:], seal.Holder{Member: "terminal-a", Node: 1})
	require.NoError(f, err)
	env, err := seal.SignSealed(source, &pb.SealedReport{
		Outline: r.Outline(), Suite: seal.SealedSuite(seal.DHKEMP256),
		Variants: []*pb.SealedVariant{{Flow: v.Flow, Named: v.Named, Content: &pb.Part{Digest: digest[:], Size: uint64(len(content))}, Commitment: seal.Commitment(salt, report)}},
		Wraps:    []*pb.Wrap{{Member: "terminal-a", Node: 1, KeyId: key.Public().ID(), SealedKey: wrap}},
	})
	require.NoError(f, err)
	d := &pb.Delivery{Lane: liveLane, ReportId: r.GetReportId(), Envelope: env, SourceKey: source.Public().(ed25519.PublicKey),
		Copy: &pb.Copy{Member: "terminal-a", Flow: v.Flow, Named: v.Named}}
	wire, err := proto.Marshal(d)
	require.NoError(f, err)
	opened, err := OpenSealed(d, content, "", key)
	require.NoError(f, err)
	require.True(f, proto.Equal(r, opened))
	f.Add(wire, content)
	f.Add(wire[:len(wire)/2], content)
	f.Add([]byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, wire, content []byte) {
		d := new(pb.Delivery)
		if proto.Unmarshal(wire, d) != nil {
			return
		}
		if l, err := lockOf(liveLane, d, []ed25519.PublicKey{d.GetSourceKey()}); err == nil {
			require.Equal(t, d.GetReportId(), l.outline.GetReportId())
			require.NotEmpty(t, l.wraps)
		}
		if got, err := OpenSealed(d, content, "", key); err == nil {
			require.Equal(t, r.GetTitle(), got.GetTitle()) // ids differ between the processes of the fuzzer
		}
	})
}

// wraps reports whether a sealed report has a wrap for a key.
func (h *fakeHub) wraps(t testing.TB, report string, key *seal.PrivateKey) bool {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	require.NotNil(t, h.sealed[report])
	return slices.ContainsFunc(h.sealed[report].GetWraps(), func(w *pb.Wrap) bool { return w.GetKeyId() == key.Public().ID() })
}

// Persons of one member get a report one by one. Where their keys are
// elsewhere, what is stored must hold the wraps of all of them.
func TestEachLatePersonKeepsTheWrap(t *testing.T) {
	persons := []string{"ciso", "kato", "mori"}
	for name, byHub := range map[string]bool{"as its source signed it": false, "a copy of the hub": true} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			r := sound(t, "一人ずつ", red, persons...)
			flow, named := pb.Flow_FLOW_AUTHORITY, true
			if byHub {
				flow, named = pb.Flow_FLOW_PEER, false
			}
			variant := &pb.SealedVariant{Flow: flow, Named: named, Content: &pb.Part{Digest: make([]byte, 32), Size: 100}, Commitment: make([]byte, 32)}
			for i, person := range persons {
				wraps := []*pb.Wrap{{Member: "terminal-a", Person: person, KeyId: "0123456789abcdef", SealedKey: []byte("x")}}
				d := &pb.Delivery{DeliverySequence: uint64(i + 1), Lane: liveLane, ReportId: r.GetReportId(),
					Copy: &pb.Copy{Member: "terminal-a", Flow: flow, Named: named, Persons: []string{person}}}
				header := &pb.SealedReport{Outline: r.Outline(), Suite: seal.SealedSuite(seal.MLKEM768P256), Variants: []*pb.SealedVariant{variant}, Wraps: wraps}
				d.Envelope = &pb.Envelope{PayloadType: seal.SealedCopyType(liveLane)}
				if !byHub {
					d.Envelope.PayloadType = seal.SealedReportType(liveLane)
					if i > 0 {
						payload, err := proto.Marshal(&pb.Instruction{Action: &pb.Instruction_Forward{Forward: &pb.Forward{Wraps: wraps}}})
						require.NoError(t, err)
						d.Instruction = &pb.Envelope{PayloadType: seal.InstructionType, Payload: payload}
						header.Wraps[0] = &pb.Wrap{Member: "terminal-a", Person: persons[0], KeyId: "0123456789abcdef", SealedKey: []byte("x")}
					}
				}
				var err error
				d.Envelope.Payload, err = proto.Marshal(header)
				require.NoError(t, err)
				_, err = s.keep(t.Context(), liveLane, arrival{delivery: d, outline: r.Outline()})
				require.NoError(t, err)
			}
			item, err := s.item(t.Context(), liveLane, r.GetReportId())
			require.NoError(t, err)
			require.Equal(t, persons, item.GetPersons())
			require.NoError(t, s.Close())
			s = storeAt(t, s.path)
			for _, person := range persons {
				d, l, err := s.sealedDelivery(t.Context(), liveLane, r.GetReportId(), person, "0123456789abcdef")
				require.NoError(t, err)
				require.Equal(t, []string{person}, d.GetCopy().GetPersons(), "as it came")
				require.True(t, slices.ContainsFunc(l.wraps, func(w *pb.Wrap) bool { return w.GetPerson() == person }), "%s can open it", person)
			}
			d, _, err := s.sealedDelivery(t.Context(), liveLane, r.GetReportId(), "nobody", "")
			require.NoError(t, err)
			require.Equal(t, uint64(3), d.GetDeliverySequence())
		})
	}
}
