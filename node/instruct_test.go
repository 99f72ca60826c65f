package node

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

func requireReason(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	refusal, ok := rpc.RefusalOf(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, refusal.Reason)
	require.Equal(t, code, refusal.Code)
	require.NotEmpty(t, refusal.Japanese())
	require.NotEmpty(t, refusal.Error())
}

// receives delivers a report and waits until it is in the inbox.
func (n *runningNode) receives(t *testing.T, h *fakeHub, r *pb.Report, alter ...func(*pb.Delivery)) string {
	t.Helper()
	id := h.deliver(t, r, alter...)
	eventually(t, func() bool { return n.has(r.GetLane(), id) }, "%s arrives", id)
	return id
}

func TestAReportIsPassedOnByASignedInstruction(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.writer(t)
	plan := &pb.Plan{Copies: []*pb.Copy{{Member: "client-a", Flow: pb.Flow_FLOW_PEER}}}
	previews := 0
	h.see(func() {
		h.toInstruct = func(_ *pb.Instruction, preview bool) (*pb.Plan, error) {
			if preview {
				previews++
			}
			return plan, nil
		}
	})
	received := n.receives(t, h, incoming(t, liveLane, "届いた"))
	drill := n.receives(t, h, incoming(t, exerciseLane, "訓練"))
	own := n.sends(t, draft("自分の")).GetReport()
	for id, lane := range map[string]pb.Lane{received: liveLane, drill: exerciseLane, own: liveLane} {
		req := &pb.ForwardReportRequest{Report: id[:10], Recipients: []*pb.Recipient{{Member: "client-a"}}, Person: "港", Preview: true}
		resp, err := n.ForwardReport(t.Context(), req)
		require.NoError(t, err)
		require.True(t, proto.Equal(plan, resp.GetPlan()))
		h.see(func() { require.Empty(t, h.instructions, "a preview does nothing") })
		req.Preview = false
		_, err = n.ForwardReport(t.Context(), req)
		require.NoError(t, err)
		h.see(func() {
			require.Len(t, h.instructions, 1)
			i := h.instructions[0]
			require.Equal(t, id, i.GetReportId())
			require.Equal(t, lane, i.GetLane())
			require.Equal(t, "港", i.GetPerson())
			require.Len(t, i.GetInstructionId(), 32)
			require.True(t, proto.Equal(&pb.Forward{Recipients: req.GetRecipients()}, i.GetForward()), "nothing is sealed")
			h.instructions = nil
		})
	}
	h.see(func() { require.Equal(t, 3, previews) })
	_, err := n.ForwardReport(t.Context(), &pb.ForwardReportRequest{Report: received})
	requireReason(t, err, codes.InvalidArgument, "RECIPIENTS_MISSING")
	_, err = n.ForwardReport(t.Context(), &pb.ForwardReportRequest{Report: "0123456789", Recipients: []*pb.Recipient{{Member: "x"}}})
	requireBilingual(t, err, errNotFound)
	for _, f := range []fault{lostOnTheWay, refusedByHub} {
		h.fail(callInstruct, f)
		_, err = n.ForwardReport(t.Context(), &pb.ForwardReportRequest{Report: received, Recipients: []*pb.Recipient{{Member: "client-a"}}})
		_, ok := rpc.RefusalOf(err)
		require.True(t, ok, "%v", err)
	}
	queued := author(t)
	_, err = queued.ForwardReport(t.Context(), &pb.ForwardReportRequest{Report: queued.publish(t, draft("待つ")), Recipients: []*pb.Recipient{{Member: "x"}}})
	requireBilingual(t, err, errState)
}

func TestTheSourceOfASealedReportGivesTheKeyToFurtherRecipients(t *testing.T) {
	h := newFakeHub(t, GRPC)
	first, late := h.published(t, "sato"), h.published(t, "suzuki")
	h.copies(toB(pb.Flow_FLOW_AUTHORITY, "sato"))
	n := h.writer(t)
	r := secret(red, n.addPart(t, "log "+canary))
	r.AttackTechnical = &pb.AttackTechnical{Text: "SMB を使う"}
	item := n.sends(t, r)
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState(), "%v", item)
	forward := func(c *pb.Copy) (*pb.Forward, error) {
		h.see(func() {
			h.instructions = nil
			h.toInstruct = func(*pb.Instruction, bool) (*pb.Plan, error) {
				return &pb.Plan{DirectoryRevision: 1, Copies: []*pb.Copy{c}}, nil
			}
		})
		req := &pb.ForwardReportRequest{Report: item.GetReport(), Recipients: []*pb.Recipient{{Member: "terminal-b", Person: "suzuki"}}, Preview: true}
		uploads := h.count(callUpload)
		_, err := n.ForwardReport(t.Context(), req)
		h.see(func() { require.Empty(t, h.instructions) })
		require.Equal(t, uploads, h.count(callUpload), "a preview sends nothing")
		req.Preview = false
		_, again := n.ForwardReport(t.Context(), req)
		require.Equal(t, err == nil, again == nil, "the preview says what happens: %v, %v", err, again)
		if again != nil {
			return nil, again
		}
		var i *pb.Instruction
		h.see(func() { i = h.instructions[0] })
		return i.GetForward(), nil
	}
	// A flow that the report has: one wrap more and nothing else.
	f, err := forward(toB(pb.Flow_FLOW_AUTHORITY, "suzuki"))
	require.NoError(t, err)
	require.Empty(t, f.GetVariants())
	require.Len(t, f.GetWraps(), 1)
	require.Equal(t, late.Public().ID(), f.GetWraps()[0].GetKeyId())
	require.Zero(t, f.GetWraps()[0].GetVariant())
	h.see(func() { h.sealed[item.GetReport()].Wraps = append(h.sealed[item.GetReport()].Wraps, f.GetWraps()...) })
	for person, key := range map[string]*seal.PrivateKey{"sato": first, "suzuki": late} {
		got, parts := h.opens(t, item.GetReport(), toB(pb.Flow_FLOW_AUTHORITY, person), key)
		require.Equal(t, "件名 "+canary, got.GetTitle())
		require.Len(t, parts, 1)
	}
	// Another flow: a form of its own, under a key of its own.
	f, err = forward(toB(pb.Flow_FLOW_EXPERT, "suzuki"))
	require.NoError(t, err)
	require.Len(t, f.GetVariants(), 1)
	require.Equal(t, uint32(1), f.GetWraps()[0].GetVariant())
	require.NoError(t, seal.CheckSealed(f.GetVariants(), f.GetWraps(), 1))
	h.see(func() {
		s := h.sealed[item.GetReport()]
		s.Variants, s.Wraps = append(s.Variants, f.GetVariants()...), append(s.Wraps, f.GetWraps()...)
	})
	got, _ := h.opens(t, item.GetReport(), toB(pb.Flow_FLOW_EXPERT, "suzuki"), late)
	require.Equal(t, "SMB を使う", got.GetAttackTechnical().GetText())
	require.Nil(t, got.GetReporter())
	h.requireNoWord(t, canary, "SMB を使う")

	_, err = forward(toB(pb.Flow_FLOW_AUTHORITY, "nobody"))
	requireReason(t, err, codes.FailedPrecondition, "RECIPIENT_HAS_NO_KEY")
	// The decision changes between the two calls: it is asked and sealed again.
	changed := 0
	h.see(func() {
		h.instructions = nil
		h.toInstruct = func(_ *pb.Instruction, preview bool) (*pb.Plan, error) {
			if changed++; changed == 2 {
				return nil, rpc.Refuse(codes.FailedPrecondition, "PLAN_CHANGED", "wraps", "変わりました。", "It has changed.")
			}
			return &pb.Plan{DirectoryRevision: 1, Copies: []*pb.Copy{toB(pb.Flow_FLOW_AUTHORITY, "suzuki")}}, nil
		}
	})
	_, err = n.ForwardReport(t.Context(), &pb.ForwardReportRequest{Report: item.GetReport(), Recipients: []*pb.Recipient{{Member: "terminal-b", Person: "suzuki"}}})
	require.NoError(t, err)
	h.see(func() { require.Len(t, h.instructions, 1) })
}

func TestAStepIsDecidedByASignedInstruction(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.writer(t)
	id := n.receives(t, h, incoming(t, liveLane, "届いた"))
	_, err := n.DecideStep(t.Context(), &pb.DecideStepRequest{Report: id, Rule: "R5", State: pb.NoticeState_NOTICE_STATE_DECLINED, Person: "港", Note: "電話済み"})
	require.NoError(t, err)
	h.see(func() {
		require.True(t, proto.Equal(&pb.Decide{Rule: "R5", State: pb.NoticeState_NOTICE_STATE_DECLINED, Note: "電話済み"}, h.instructions[0].GetDecide()))
		require.Equal(t, "港", h.instructions[0].GetPerson())
	})
	_, err = n.DecideStep(t.Context(), &pb.DecideStepRequest{Report: id, Rule: "R5"})
	requireReason(t, err, codes.InvalidArgument, "STATE_MISSING")
	h.fail(callInstruct, lostOnTheWay)
	_, err = n.DecideStep(t.Context(), &pb.DecideStepRequest{Report: id, Rule: "R5", State: pb.NoticeState_NOTICE_STATE_DONE})
	requireReason(t, err, codes.Unavailable, "HUB_NOT_REACHED")
}

func TestTheHubExplainsWhoGotAReport(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.writer(t)
	drill := n.receives(t, h, incoming(t, exerciseLane, "訓練"))
	resp, err := n.ExplainReport(t.Context(), &pb.NodeServiceExplainReportRequest{Report: drill[:8]})
	require.NoError(t, err)
	require.Equal(t, "2026-1", resp.GetExplanation().GetPolicyVersion())
	h.see(func() {
		require.True(t, proto.Equal(&pb.ExplainReportRequest{Lane: exerciseLane, ReportId: drill, Member: "terminal-a"}, h.explained))
	})
	own := n.sends(t, draft("自分の")).GetReport()
	_, err = n.ExplainReport(t.Context(), &pb.NodeServiceExplainReportRequest{Report: own, Member: "mlit"})
	require.NoError(t, err)
	h.see(func() {
		require.True(t, proto.Equal(&pb.ExplainReportRequest{Lane: liveLane, ReportId: own, Member: "mlit"}, h.explained))
	})
	h.fail(callExplain, lostOnTheWay)
	_, err = n.ExplainReport(t.Context(), &pb.NodeServiceExplainReportRequest{Report: own, Member: "mlit"})
	requireReason(t, err, codes.Unavailable, "HUB_NOT_REACHED")
}

func TestAHolderMayOnlyNarrowALabelAndThatHoldsHereOnly(t *testing.T) {
	h := newFakeHub(t, GRPC)
	dir := h.join(t)
	n := h.run(t, dir)
	id := n.receives(t, h, incoming(t, liveLane, "届いた"))
	_, err := n.NarrowReport(t.Context(), &pb.NarrowReportRequest{Report: id, Tlp: pb.TlpLabel_TLP_LABEL_GREEN})
	requireReason(t, err, codes.FailedPrecondition, "LABEL_LOOSER")
	for _, none := range []pb.TlpLabel{0, 6, 260} {
		_, err = n.NarrowReport(t.Context(), &pb.NarrowReportRequest{Report: id, Tlp: none})
		requireReason(t, err, codes.InvalidArgument, "TLP_MISSING")
	}
	to := []*pb.Recipient{{Member: "client-a"}}
	_, err = n.ForwardReport(t.Context(), &pb.ForwardReportRequest{Report: id, Recipients: to})
	require.NoError(t, err)
	resp, err := n.NarrowReport(t.Context(), &pb.NarrowReportRequest{Report: id, Tlp: strict})
	require.NoError(t, err)
	require.Equal(t, "TLP:AMBER+STRICT", resp.GetItem().GetTlp())
	_, err = n.NarrowReport(t.Context(), &pb.NarrowReportRequest{Report: id, Tlp: pb.TlpLabel_TLP_LABEL_AMBER})
	requireReason(t, err, codes.FailedPrecondition, "LABEL_LOOSER")
	n.end()
	n = h.run(t, dir)
	item, err := n.store.item(t.Context(), liveLane, id)
	require.NoError(t, err)
	require.Equal(t, "TLP:AMBER+STRICT", item.GetTlp())
	calls := h.count(callInstruct)
	_, err = n.ForwardReport(t.Context(), &pb.ForwardReportRequest{Report: id, Recipients: to})
	requireReason(t, err, codes.FailedPrecondition, "LABEL_NARROWED")
	require.Equal(t, calls, h.count(callInstruct))
	require.NoError(t, n.store.setProfile(t.Context(), memberProfile(), false))
	own := n.publish(t, draft("自分の"))
	_, err = n.NarrowReport(t.Context(), &pb.NarrowReportRequest{Report: own, Tlp: red})
	requireReason(t, err, codes.FailedPrecondition, "REPORT_OWN")
}

func TestTheLabelThatTheSourceHasGivenSinceIsShown(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.run(t, h.join(t))
	r := incoming(t, liveLane, "届いた")
	id := n.receives(t, h, r)
	relabel := func(to pb.TlpLabel) *pb.DeliveryReceipt {
		none := sha256.Sum256(nil)
		notices := func() (all []*pb.DeliveryReceipt) { // the receipt of the report itself may come late
			h.see(func() {
				for _, r := range h.lanes[liveLane].receipts {
					if bytes.Equal(r.GetPayloadDigest(), none[:]) {
						all = append(all, r)
					}
				}
			})
			return all
		}
		before := len(notices())
		h.deliver(t, &pb.Report{ReportId: id, Lane: liveLane}, func(d *pb.Delivery) {
			d.Envelope, d.Copy, d.Source, d.SourceName, d.SourceKey = nil, nil, "", "", nil
			d.Relabelling = &pb.Relabelling{ReportId: id, Tlp: to}
		})
		eventually(t, func() bool { return len(notices()) > before }, "a receipt")
		return notices()[before]
	}
	label := func() string {
		item, err := n.store.item(t.Context(), liveLane, id)
		require.NoError(t, err)
		return item.GetTlp()
	}
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, relabel(red).GetState())
	require.Equal(t, "TLP:RED", label())
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, relabel(pb.TlpLabel_TLP_LABEL_CLEAR).GetState())
	require.Equal(t, "TLP:CLEAR", label(), "the source may widen, too")
	_, err := n.NarrowReport(t.Context(), &pb.NarrowReportRequest{Report: id, Tlp: pb.TlpLabel_TLP_LABEL_GREEN})
	require.NoError(t, err)
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, relabel(pb.TlpLabel_TLP_LABEL_CLEAR).GetState())
	require.Equal(t, "TLP:GREEN", label(), "what a person here has narrowed stays narrow")
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_REJECTED, relabel(261).GetState())
	require.Equal(t, "TLP:GREEN", label())

	// It may come with a copy of the report that asks for it.
	next := incoming(t, liveLane, "ラベル変更")
	next.CaseId, next.Sequence, next.Stage, next.Relabels, next.Tlp = r.GetCaseId(), 2, pb.Stage_STAGE_FOLLOW_UP, id, strict
	n.receives(t, h, next, func(d *pb.Delivery) { d.Relabelling = &pb.Relabelling{ReportId: id, Tlp: strict} })
	eventually(t, func() bool { return label() == "TLP:AMBER+STRICT" }, "the label that came with it")
}

func TestWhatHasRunOutIsShownWithoutItsContent(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.run(t, h.join(t))
	r := incoming(t, liveLane, "期限 "+canary, h.atHub("log"))
	r.Restrictions = &pb.Restrictions{ExpireTime: timestamppb.New(time.Now().Add(2 * time.Second))}
	id := n.receives(t, h, r)
	key := personKeyless(t, n, h)
	item, err := n.store.item(t.Context(), liveLane, id)
	require.NoError(t, err)
	require.Contains(t, item.GetTitle(), canary)
	_, err = n.GetReport(t.Context(), &pb.GetReportRequest{Report: id})
	require.NoError(t, err)
	eventually(t, func() bool {
		item, err = n.store.item(t.Context(), liveLane, id)
		return err == nil && item.GetTitle()+item.GetText() == ""
	}, "it runs out")
	require.Empty(t, item.GetParts())
	require.Equal(t, "TLP:AMBER", item.GetTlp())
	_, err = n.GetReport(t.Context(), &pb.GetReportRequest{Report: id})
	requireReason(t, err, codes.FailedPrecondition, "EXPIRED")
	_, err = n.ForwardReport(t.Context(), &pb.ForwardReportRequest{Report: id, Recipients: []*pb.Recipient{{Member: "x"}}})
	requireReason(t, err, codes.FailedPrecondition, "EXPIRED")
	_, err = n.GetSealed(t.Context(), &pb.GetSealedRequest{Report: key})
	requireReason(t, err, codes.FailedPrecondition, "EXPIRED")
	found, err := n.SearchInbox(t.Context(), &pb.SearchInboxRequest{Query: "kanaria"})
	require.NoError(t, err)
	require.Empty(t, found.GetItems())
	found, err = n.SearchInbox(t.Context(), &pb.SearchInboxRequest{})
	require.NoError(t, err)
	require.Len(t, found.GetItems(), 2)
	_, err = n.Acknowledge(t.Context(), &pb.AcknowledgeRequest{Report: id, Reaction: pb.Reaction_REACTION_SEEN})
	require.NoError(t, err)
}

// personKeyless delivers a report that runs out and is sealed to a person
// whose key is elsewhere.
func personKeyless(t *testing.T, n *runningNode, h *fakeHub) string {
	t.Helper()
	key, err := seal.GenerateKey(seal.DHKEMP256)
	require.NoError(t, err)
	r := sound(t, "封", red, "ciso")
	r.CreateTime = timestamppb.New(time.Now().Add(-time.Hour))
	r.Restrictions = &pb.Restrictions{ExpireTime: timestamppb.New(time.Now().Add(time.Second))}
	id := h.post(t, r, key.Public(), aLetter{})
	eventually(t, func() bool { return n.has(liveLane, id) }, "the sealed one arrives")
	return id
}

func TestAReportThatQuotesOthersIsAsStrictAsTheStrictest(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.writer(t)
	green := incoming(t, liveLane, "緑")
	green.Tlp, green.CommunityId = pb.TlpLabel_TLP_LABEL_GREEN, "testport"
	green.Restrictions = &pb.Restrictions{NoCopy: true, Text: "写しを作らない"}
	amber := incoming(t, liveLane, "黄")
	soon := timestamppb.New(time.Now().Add(time.Hour).Truncate(time.Second))
	amber.Restrictions, amber.SecrecyRegime = &pb.Restrictions{NoExport: true, ExpireTime: soon}, pb.SecrecyRegime_SECRECY_REGIME_CONTRACT
	g, a := n.receives(t, h, green), n.receives(t, h, amber)
	own := n.publish(t, &pb.Report{Lane: liveLane, Tlp: pb.TlpLabel_TLP_LABEL_CLEAR, Title: "自分の", Summary: "概要"})
	drill := n.receives(t, h, incoming(t, exerciseLane, "訓練"))

	r, err := n.complete(t.Context(), &pb.Report{Lane: liveLane, Tlp: pb.TlpLabel_TLP_LABEL_CLEAR, DerivedFrom: []string{g[:12], own}})
	require.NoError(t, err)
	require.Equal(t, pb.TlpLabel_TLP_LABEL_GREEN, r.GetTlp())
	require.Equal(t, "testport", r.GetCommunityId())
	require.Equal(t, []string{g, own}, r.GetDerivedFrom(), "ids are written out")
	require.True(t, r.GetRestrictions().GetNoCopy())

	r, err = n.complete(t.Context(), &pb.Report{
		Lane: liveLane, Tlp: pb.TlpLabel_TLP_LABEL_GREEN, CommunityId: "testport", DerivedFrom: []string{g, a},
		Restrictions: &pb.Restrictions{ChathamHouse: true, Text: "自分の制限"},
	})
	require.NoError(t, err)
	require.Equal(t, pb.TlpLabel_TLP_LABEL_AMBER, r.GetTlp())
	require.Empty(t, r.GetCommunityId(), "only GREEN has one")
	require.True(t, proto.Equal(&pb.Restrictions{NoCopy: true, NoExport: true, ChathamHouse: true, ExpireTime: soon, Text: "自分の制限\n写しを作らない"}, r.GetRestrictions()), r.GetRestrictions())
	require.Equal(t, pb.SecrecyRegime_SECRECY_REGIME_CONTRACT, r.GetSecrecyRegime())

	r, err = n.complete(t.Context(), &pb.Report{Lane: liveLane, Tlp: red, DerivedFrom: []string{g}})
	require.NoError(t, err)
	require.Equal(t, red, r.GetTlp(), "a stricter label stays")
	_, err = n.NarrowReport(t.Context(), &pb.NarrowReportRequest{Report: g, Tlp: strict})
	require.NoError(t, err)
	r, err = n.complete(t.Context(), &pb.Report{Lane: liveLane, Tlp: pb.TlpLabel_TLP_LABEL_CLEAR, DerivedFrom: []string{g}})
	require.NoError(t, err)
	require.Equal(t, strict, r.GetTlp(), "what was narrowed here hands that down")
	r, err = n.complete(t.Context(), &pb.Report{Lane: liveLane, DerivedFrom: []string{g}})
	require.NoError(t, err)
	require.Zero(t, r.GetTlp(), "a label is never filled in")

	for _, bad := range []string{newID(t), drill, "xyz", ""} {
		_, err = n.complete(t.Context(), &pb.Report{Lane: liveLane, Tlp: red, DerivedFrom: []string{g, bad}})
		requireReason(t, err, codes.InvalidArgument, "NOT_FOUND")
		refusal, _ := rpc.RefusalOf(err)
		require.Equal(t, "derived_from[1]", refusal.Violations[0].Field)
	}
}

func TestWhoWorksAtThePortReportsIncidentsAndAllOthersWarn(t *testing.T) {
	for role, want := range map[pb.Role]pb.Kind{
		pb.Role_ROLE_OPERATOR: pb.Kind_KIND_INCIDENT, pb.Role_ROLE_PORT_COMPANY: pb.Kind_KIND_INCIDENT, pb.Role_ROLE_USERS: pb.Kind_KIND_INCIDENT,
		pb.Role_ROLE_MINISTRY: pb.Kind_KIND_NOTICE, pb.Role_ROLE_ISAC: pb.Kind_KIND_NOTICE, pb.Role_ROLE_PORT_AUTHORITY: pb.Kind_KIND_NOTICE,
	} {
		t.Run(role.String(), func(t *testing.T) {
			n := author(t)
			require.NoError(t, n.store.setDirectory(t.Context(), []*pb.Member{{Id: "terminal-a", Role: role}}, 1))
			r, err := n.complete(t.Context(), draft("件名"))
			require.NoError(t, err)
			require.Equal(t, want, r.GetKind())
			said := draft("件名")
			said.Kind = pb.Kind_KIND_INCIDENT + pb.Kind_KIND_NOTICE - want
			r, err = n.complete(t.Context(), said)
			require.NoError(t, err)
			require.NotEqual(t, want, r.GetKind(), "its author knows better")
		})
	}
}

// The source's signature is over the instruction, whoever carries it.
func TestAnInstructionIsSignedByTheNode(t *testing.T) {
	n := author(t)
	env, err := seal.SignInstruction(n.id.signing, n.instruction(held{id: newID(t), lane: liveLane}, "港"))
	require.NoError(t, err)
	_, err = seal.VerifyInstruction(env, n.id.signing.Public().(ed25519.PublicKey))
	require.NoError(t, err)
}

// The hub cannot read what is sealed, so its word alone makes no label wider;
// stricter it may always be.
func TestOnlyTheSourceWidensWhatCameSealed(t *testing.T) {
	for name, test := range map[string]struct {
		alter func(h *fakeHub, d *pb.Delivery)
		want  string
	}{
		"by a report that its source has signed": {func(*fakeHub, *pb.Delivery) {}, "TLP:GREEN"},
		"by the hub alone": {func(_ *fakeHub, d *pb.Delivery) {
			d.Envelope, d.Copy, d.Source, d.SourceKey = nil, nil, "", nil
		}, "TLP:AMBER+STRICT"},
		"by a copy that the hub has built": {func(h *fakeHub, d *pb.Delivery) {
			d.Envelope = seal.Sign(h.key, seal.LiveCopyType, d.GetEnvelope().GetPayload())
		}, "TLP:AMBER+STRICT"},
		"by a report that says nothing of it": {func(h *fakeHub, d *pb.Delivery) {
			r := new(pb.Report)
			_ = proto.Unmarshal(d.GetEnvelope().GetPayload(), r)
			r.Relabels = ""
			payload, _ := proto.Marshal(r)
			d.Envelope = seal.Sign(h.source, seal.LiveReportType, payload)
		}, "TLP:AMBER+STRICT"},
		"by a report with another label": {func(_ *fakeHub, d *pb.Delivery) { d.Relabelling.Tlp = pb.TlpLabel_TLP_LABEL_CLEAR }, "TLP:AMBER+STRICT"},
		"stricter, by the hub alone": {func(_ *fakeHub, d *pb.Delivery) {
			d.Envelope, d.Copy, d.Source, d.SourceKey, d.Relabelling.Tlp = nil, nil, "", nil, red
		}, "TLP:RED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHub(t, GRPC)
			n := h.run(t, h.join(t))
			r := sound(t, "封", strict)
			id := h.post(t, r, n.keys.current().Public(), aLetter{})
			require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, id).GetState())
			next := incoming(t, liveLane, "ラベル変更")
			next.CaseId, next.Sequence, next.Stage, next.Relabels, next.Tlp, next.CommunityId = r.GetCaseId(), 2, pb.Stage_STAGE_FOLLOW_UP, id, pb.TlpLabel_TLP_LABEL_GREEN, "testport"
			h.deliver(t, next, func(d *pb.Delivery) {
				d.Relabelling = &pb.Relabelling{ReportId: id, Tlp: pb.TlpLabel_TLP_LABEL_GREEN}
				test.alter(h, d)
				if d.Envelope == nil {
					d.ReportId = id
				}
			})
			eventually(t, func() (done bool) {
				h.see(func() { done = h.lanes[liveLane].confirmed == 2 })
				return done
			}, "confirmed")
			item, err := n.store.item(t.Context(), liveLane, id)
			require.NoError(t, err)
			require.Equal(t, test.want, item.GetTlp())
		})
	}
}

// The hub would still pass on what is CLEAR to it.
func TestWhatWasNarrowedHereIsPassedOnUnderThatLabelOnly(t *testing.T) {
	h := newFakeHub(t, GRPC)
	h.see(func() { h.clients, h.communities = []string{"client-a"}, []string{"port", "terminals"} })
	n := h.run(t, h.join(t))
	require.NoError(t, n.fetchDirectory(t.Context()))
	clear := func(community string) string {
		r := incoming(t, liveLane, "広い")
		r.Tlp = pb.TlpLabel_TLP_LABEL_CLEAR
		return n.receives(t, h, r, func(d *pb.Delivery) {
			d.Handling = &pb.Handling{Tlp: r.Tlp, CommunityId: community}
			d.Copy.Tasks = []*pb.Step{{Act: pb.Act_ACT_TASK, Members: []string{"office"}}}
		})
	}
	narrow := func(id string, label pb.TlpLabel) {
		_, err := n.NarrowReport(t.Context(), &pb.NarrowReportRequest{Report: id, Tlp: label})
		require.NoError(t, err)
	}
	forward := func(id string, to ...string) error {
		req := &pb.ForwardReportRequest{Report: id}
		for _, m := range to {
			req.Recipients = append(req.Recipients, &pb.Recipient{Member: m})
		}
		_, err := n.ForwardReport(t.Context(), req)
		return err
	}
	amber := clear("")
	require.NoError(t, forward(amber, "terminal-b"))
	narrow(amber, pb.TlpLabel_TLP_LABEL_AMBER)
	calls := h.count(callInstruct)
	requireReason(t, forward(amber, "client-a", "terminal-b"), codes.FailedPrecondition, "LABEL_NARROWED")
	require.ErrorContains(t, forward(amber, "client-a", "terminal-b"), `"terminal-b"`)
	require.NotContains(t, forward(amber, "client-a", "terminal-b").Error(), "client-a")
	require.Equal(t, calls, h.count(callInstruct), "the hub is not asked")
	require.NoError(t, forward(amber, "client-a"))
	require.NoError(t, forward(amber, "office"), "a task of the copy asks for it")

	green := clear("terminals")
	narrow(green, pb.TlpLabel_TLP_LABEL_GREEN)
	require.NoError(t, forward(green, "terminal-b"))
	requireReason(t, forward(green, "client-a"), codes.FailedPrecondition, "LABEL_NARROWED")
	port := clear("")
	narrow(port, pb.TlpLabel_TLP_LABEL_GREEN)
	require.NoError(t, forward(port, "terminal-b"), "in the community of the port is every member")

	same := n.receives(t, h, incoming(t, liveLane, "もともと AMBER"))
	narrow(same, pb.TlpLabel_TLP_LABEL_AMBER)
	require.NoError(t, forward(same, "terminal-b"), "nothing was narrowed; the hub judges")
}
