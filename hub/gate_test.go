package hub

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/anonymizer"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

const live = pb.Lane_LANE_LIVE

// incident is a report whose source agrees to nothing: peers get what helps
// them and no more.
func incident(to ...string) *pb.Report {
	r := firstReport(to...)
	r.Consents = nil
	r.Reporter = &pb.Reporter{Organisation: "北埠頭株式会社", Unit: "canary-unit", Contacts: testContacts()}
	r.Title, r.Summary, r.Response = "canary-title", "canary-summary", "canary-response"
	r.AttackTechnical = &pb.AttackTechnical{Text: "shared-technique"}
	return r
}

// set changes what the administrator says of a member.
func (h *testHub) set(id string, change func(*pb.MemberSet)) {
	h.t.Helper()
	m := h.directory().members[id]
	set := &pb.MemberSet{
		Member: id, Name: m.GetName(), Role: m.GetRole(), Communities: m.GetCommunities(), Jurisdictions: m.GetJurisdictions(), Nda: m.GetNda(),
		Designations: m.GetDesignations(), SecrecyRegimes: m.GetSecrecyRegimes(), Clients: m.GetClients(),
	}
	change(set)
	_, err := h.SetMember(context.Background(), &pb.SetMemberRequest{Member: set})
	require.NoError(h.t, err)
}

// instruction is an instruction of this node, signed.
func (m *testMember) instruction(report string, change func(*pb.Instruction)) *pb.Envelope {
	m.t.Helper()
	in := &pb.Instruction{Lane: live, ReportId: report, InstructionId: newID(), CreateTime: timestamppb.Now(), Person: "港 一郎"}
	change(in)
	env, err := seal.SignInstruction(m.signing, in)
	require.NoError(m.t, err)
	return env
}

func (m *testMember) instruct(env *pb.Envelope, preview bool) (*pb.Plan, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := m.hub.InstructReport(ctx, &pb.InstructReportRequest{Instruction: env, Preview: preview})
	return resp.GetPlan(), err
}

// forward passes a report on.
func (m *testMember) forward(report string, to ...string) (*pb.Plan, error) {
	m.t.Helper()
	return m.instruct(m.instruction(report, forwardTo(to...)), false)
}

func forwardTo(to ...string) func(*pb.Instruction) {
	f := &pb.Forward{}
	for _, id := range to {
		member, person, _ := strings.Cut(id, "/")
		f.Recipients = append(f.Recipients, &pb.Recipient{Member: member, Person: person})
	}
	return func(in *pb.Instruction) { in.Action = &pb.Instruction_Forward{Forward: f} }
}

func decide(rule string, state pb.NoticeState) func(*pb.Instruction) {
	return func(in *pb.Instruction) {
		in.Action = &pb.Instruction_Decide{Decide: &pb.Decide{Rule: rule, State: state}}
	}
}

// must submits what must be accepted.
func (m *testMember) must(r *pb.Report) *pb.Report {
	m.t.Helper()
	_, err := m.submit(r, newID())
	require.NoError(m.t, err)
	return r
}

// got waits for the next delivery and confirms it.
func (s *testSession) got(report string) *pb.Delivery {
	s.t.Helper()
	d := s.delivery()
	require.Equal(s.t, report, d.GetReportId())
	s.confirm(d, stored)
	return d
}

// requireCopy demands that the member has a copy of the report, by what it may
// ask the hub.
func requireCopy(t testing.TB, m *testMember, report string, has bool) *pb.Copy {
	t.Helper()
	resp, err := m.hub.ExplainReport(context.Background(), &pb.ExplainReportRequest{Lane: live, ReportId: report, Member: m.id.member})
	if !has {
		requireReason(t, err, "NOT_FOUND")
		return nil
	}
	require.NoError(t, err)
	require.NotNil(t, resp.GetCopy())
	return resp.GetCopy()
}

// requireNothingOf searches bytes for texts, plain and in the encodings in
// which they might travel.
func requireNothingOf(t testing.TB, data []byte, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.NotEmpty(t, text)
		for _, form := range []string{text, hex.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text))} {
			require.False(t, bytes.Contains(data, []byte(form)), "%q is in what left", text)
		}
	}
}

func TestACopyWithoutANameHoldsNoByteThatTellsOfItsSource(t *testing.T) {
	t.Parallel()
	for name, via := range transports {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, nil)
			a, b := h.join("terminal-kita", pb.Role_ROLE_OPERATOR), h.join("terminal-minami", pb.Role_ROLE_OPERATOR)
			kan := h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY)
			toB, toKan := b.open(t, live, via), kan.open(t, live, via)
			r := incident("terminal-minami", "kanri")
			r.Attachments = []*pb.Part{attach(t, a, live, []byte("damage")), attach(t, a, live, []byte("sample"))}
			r.Attachments[1].Class, r.Attachments[1].Sanitised, r.Attachments[1].Name = pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE, true, "canary-file"
			a.must(r)
			key := a.signing.Public().(ed25519.PublicKey)
			tells := []string{"terminal-kita", "terminal-kita の名", "北埠頭", string(key), seal.KeyID(key), "canary", "港 一郎", "hanako@port.example", "03-0000-0001"}
			for _, part := range r.Attachments[:1] {
				tells = append(tells, string(part.GetDigest()))
			}

			d := toB.got(r.GetReportId())
			requireNothingOf(t, encoded(t, d), tells...)
			_, err := seal.Verify(d.GetEnvelope(), seal.LiveCopyType, h.key.Public().(ed25519.PublicKey))
			require.NoError(t, err, "signed by the hub")
			held := new(pb.Report)
			require.NoError(t, proto.Unmarshal(d.GetEnvelope().GetPayload(), held))
			require.Equal(t, "shared-technique", held.GetAttackTechnical().GetText())
			require.Equal(t, pb.Flow_FLOW_PEER, d.GetCopy().GetFlow())
			require.False(t, d.GetCopy().GetNamed())
			for _, c := range []*pb.Copy{d.GetCopy(), requireCopy(t, b, r.GetReportId(), true)} {
				require.Len(t, c.GetGrounds(), 1)
				require.Equal(t, "ADDRESSED", c.GetGrounds()[0].GetRule(), "R10 would tell whose report it is: an operator's")
			}
			require.Empty(t, d.GetCopy().GetWithheld(), "what was left out tells of the report")
			require.Empty(t, d.GetCopy().GetGeneralised())
			requireNothingOf(t, encoded(t, requireCopy(t, b, r.GetReportId(), true)), append(tells, "summary", "reporter")...)

			whole := toKan.got(r.GetReportId())
			require.Equal(t, "terminal-kita", whole.GetSource())
			require.Equal(t, []byte(key), whole.GetSourceKey())
			_, err = seal.Verify(whole.GetEnvelope(), seal.LiveReportType, key)
			require.NoError(t, err, "as its source signed it")

			// Parts: of the projection, and no other.
			sample, err := download(b, r.GetReportId(), r.Attachments[1].GetDigest())
			require.NoError(t, err)
			require.Equal(t, "sample", string(sample))
			_, err = download(b, r.GetReportId(), r.Attachments[0].GetDigest())
			requireReason(t, err, "NOT_FOUND")
			damage, err := download(kan, r.GetReportId(), r.Attachments[0].GetDigest())
			require.NoError(t, err)
			require.Equal(t, "damage", string(damage))
			// The source sees what was left out.
			resp, err := a.hub.ExplainReport(context.Background(), &pb.ExplainReportRequest{Lane: live, ReportId: r.GetReportId(), Member: "terminal-minami"})
			require.NoError(t, err)
			require.Subset(t, resp.GetCopy().GetWithheld(), []string{"title", "summary", "response", "reporter"})
		})
	}
}

func TestAPeerMayReadTheBundleOfItsCopyAndNotThatOfTheReport(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b, kan := h.join("terminal-kita", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY)
	bundle := []byte(`{"type":"bundle","id":"bundle--11111111-1111-4111-8111-111111111111","objects":[` +
		`{"type":"identity","spec_version":"2.1","id":"identity--22222222-2222-4222-8222-222222222222","created":"2026-11-01T00:00:00.000Z","modified":"2026-11-01T00:00:00.000Z","name":"canary-victim","identity_class":"organization"},` +
		`{"type":"indicator","spec_version":"2.1","id":"indicator--33333333-3333-4333-8333-333333333333","created":"2026-11-01T00:00:00.000Z","modified":"2026-11-01T00:00:00.000Z",` +
		`"created_by_ref":"identity--22222222-2222-4222-8222-222222222222","pattern":"[ipv4-addr:value = '198.51.100.7']","pattern_type":"stix","valid_from":"2026-11-01T00:00:00Z"}]}`)
	r := incident("b", "kanri")
	r.AttackTechnical.StixBundle = attach(t, a, live, bundle)
	r.AttackTechnical.StixBundle.Class = pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE
	preview, err := a.hub.PlanReport(context.Background(), &pb.PlanReportRequest{Report: r})
	require.NoError(t, err)
	a.must(r)
	check := func() {
		t.Helper()
		own := requireCopy(t, b, r.GetReportId(), true)
		require.Equal(t, copyFor(preview.GetPlan(), "b").GetParts(), own.GetParts(), "the preview said so")
		require.Len(t, own.GetParts(), 1)
		got, err := download(b, r.GetReportId(), own.GetParts()[0])
		require.NoError(t, err)
		require.Contains(t, string(got), "198.51.100.7")
		requireNothingOf(t, got, "canary-victim", "22222222-2222")
		_, err = download(b, r.GetReportId(), r.AttackTechnical.StixBundle.GetDigest())
		requireReason(t, err, "NOT_FOUND")
		whole, err := download(kan, r.GetReportId(), r.AttackTechnical.StixBundle.GetDigest())
		require.NoError(t, err)
		require.True(t, bytes.Equal(bundle, whole))
		_, err = download(kan, r.GetReportId(), own.GetParts()[0])
		requireReason(t, err, "NOT_FOUND")
	}
	check()
	h.restart(nil)
	for _, m := range []*testMember{b, kan} {
		m.dial()
	}
	check()
}

func TestACopyThatWouldTellNothingOrTheNameIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("terminal-kita", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR)
	profile := testProfile()
	profile.Organisation = "北埠頭株式会社"
	_, err := a.hub.SetProfile(context.Background(), &pb.SetProfileRequest{Profile: profile})
	require.NoError(t, err)
	both := func(r *pb.Report, reason string) {
		t.Helper()
		_, planned := a.hub.PlanReport(context.Background(), &pb.PlanReportRequest{Report: r})
		_, submitted := a.submit(r, newID())
		if reason == "" {
			require.NoError(t, planned)
			require.NoError(t, submitted)
			return
		}
		require.Equal(t, requireReason(t, planned, reason), requireReason(t, submitted, reason))
	}
	empty := incident("b")
	empty.AttackTechnical = nil
	both(empty, "NOTHING_REMAINS")
	empty.Kind = pb.Kind_KIND_NOTICE
	both(empty, "")
	names := incident("b")
	names.AttackTechnical.Text = "北埠頭で見つかった検体"
	both(names, "NAME_REMAINS")
	names.Consents = &pb.Consents{PeerNamed: true}
	both(names, "")
	told := incident("b")
	told.AttackTechnical, told.Consents = nil, &pb.Consents{PeerNamed: true, PeerDamage: true}
	both(told, "")
	require.Len(t, h.stored(live), 3)
}

// answerBytes is the whole status of a refusal with an id taken out.
func answerBytes(t testing.TB, err error, id string) string {
	t.Helper()
	require.Error(t, err)
	s, ok := status.FromError(err)
	require.True(t, ok)
	data := string(encoded(t, s.Proto()))
	return strings.ReplaceAll(strings.ReplaceAll(data, id, "ID"), id[:8], "ID8")
}

func TestWhatAMemberMayNotSeeIsAsWhatNeverWas(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_PORT_AUTHORITY), h.join("c", pb.Role_ROLE_PORT_AUTHORITY)
	r := firstReport("b")
	r.Attachments = []*pb.Part{attach(t, a, live, []byte("content"))}
	a.must(r)
	drill := firstReport("c")
	drill.Lane = pb.Lane_LANE_EXERCISE
	_, err := a.submitBytes(encoded(t, drill), seal.ExerciseReportType, newID())
	require.NoError(t, err)
	short := firstReport("c")
	short.Restrictions = &pb.Restrictions{ExpireTime: timestamppb.New(time.Now().Add(2 * time.Second))}
	short.CreateTime = timestamppb.New(time.Now().Add(-time.Hour))
	a.must(short)
	// A report that c holds and that b relabels nothing of.
	own := firstReport("b")
	own.CaseId = newID()
	c.must(own)

	ctx := context.Background()
	digest := r.Attachments[0].GetDigest()
	payload := encoded(t, r)
	asks := map[string]func(m *testMember, id string) error{
		"receipts": func(m *testMember, id string) error {
			_, err := m.hub.ListReceipts(ctx, &pb.ListReceiptsRequest{Lane: live, ReportId: id})
			return err
		},
		"part": func(m *testMember, id string) error { _, err := download(m, id, digest); return err },
		"acknowledge": func(m *testMember, id string) error {
			_, err := m.hub.AcknowledgeReport(ctx, &pb.AcknowledgeReportRequest{Receipt: m.edited(
				&pb.Delivery{ReportId: id, Lane: live, Envelope: &pb.Envelope{Payload: payload}, DeliverySequence: 1},
				func(r *pb.DeliveryReceipt) {
					r.State, r.Reaction = pb.ReceiptState_RECEIPT_STATE_ACKNOWLEDGED, pb.Reaction_REACTION_SEEN
				})})
			return err
		},
		"explain oneself": func(m *testMember, id string) error {
			_, err := m.hub.ExplainReport(ctx, &pb.ExplainReportRequest{Lane: live, ReportId: id, Member: m.id.member})
			return err
		},
		"explain the source": func(m *testMember, id string) error {
			_, err := m.hub.ExplainReport(ctx, &pb.ExplainReportRequest{Lane: live, ReportId: id, Member: "a"})
			return err
		},
		"forward": func(m *testMember, id string) error {
			_, err := m.instruct(m.instruction(id, forwardTo("b")), false)
			return err
		},
		"preview of a forward": func(m *testMember, id string) error {
			_, err := m.instruct(m.instruction(id, forwardTo("b")), true)
			return err
		},
		"decide": func(m *testMember, id string) error {
			_, err := m.instruct(m.instruction(id, decide("R1", pb.NoticeState_NOTICE_STATE_DONE)), false)
			return err
		},
		"derive": func(m *testMember, id string) error {
			d := firstReport("a")
			d.DerivedFrom = []string{id}
			_, err := m.submit(d, newID())
			return err
		},
		"preview of deriving": func(m *testMember, id string) error {
			d := firstReport("a")
			d.DerivedFrom = []string{id}
			_, err := m.hub.PlanReport(ctx, &pb.PlanReportRequest{Report: d})
			return err
		},
		"relabel": func(m *testMember, id string) error {
			d := firstReport("a")
			d.Relabels = id
			_, err := m.submit(d, newID())
			return err
		},
		"relabel in its case": func(m *testMember, id string) error {
			d := firstReport("a")
			d.Relabels, d.CaseId = id, r.GetCaseId()
			_, err := m.hub.PlanReport(ctx, &pb.PlanReportRequest{Report: d})
			return err
		},
	}
	require.Eventually(t, func() bool {
		return asks["explain oneself"](c, short.GetReportId()) != nil
	}, patience, 20*time.Millisecond, "it expires")
	check := func() {
		t.Helper()
		for what, ask := range asks {
			never := newID()
			want := answerBytes(t, ask(c, never), never)
			for name, id := range map[string]string{"not addressed": r.GetReportId(), "of the other lane": drill.GetReportId(), "expired": short.GetReportId()} {
				require.Equal(t, want, answerBytes(t, ask(c, id), id), "%s: %s", what, name)
			}
		}
		// A recipient sees its own copy and nothing that is its source's.
		for _, what := range []string{"receipts", "explain the source", "relabel", "relabel in its case"} {
			never := newID()
			require.Equal(t, answerBytes(t, asks[what](b, never), never), answerBytes(t, asks[what](b, r.GetReportId()), r.GetReportId()), what)
		}
	}
	check()
	requireCopy(t, b, r.GetReportId(), true)
	h.restart(nil)
	b.dial()
	c.dial()
	check()
}

func TestWhatHasExpiredDoesNotLeaveAnyMore(t *testing.T) {
	t.Parallel()
	for name, via := range transports {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, nil)
			a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_PORT_AUTHORITY)
			r := firstReport("b")
			r.CreateTime = timestamppb.New(time.Now().Add(-time.Hour))
			r.Restrictions = &pb.Restrictions{ExpireTime: timestamppb.New(time.Now().Add(2 * time.Second))}
			a.must(r)
			requireCopy(t, b, r.GetReportId(), true)
			require.Eventually(t, func() bool {
				_, err := b.hub.ExplainReport(context.Background(), &pb.ExplainReportRequest{Lane: live, ReportId: r.GetReportId(), Member: "b"})
				return err != nil
			}, patience, 20*time.Millisecond)
			requireCopy(t, b, r.GetReportId(), false)
			_, err := a.forward(r.GetReportId(), "b")
			requireReason(t, err, "EXPIRED")
			again := firstReport("b")
			again.CreateTime, again.Restrictions = r.CreateTime, r.Restrictions
			_, err = a.submit(again, newID())
			requireReason(t, err, "EXPIRED")
			next := a.must(firstReport("b"))
			s := b.open(t, live, via)
			require.Equal(t, uint64(1), s.got(next.GetReportId()).GetDeliverySequence(), "what expired leaves no gap")
		})
	}
}

func TestHoldersHearOfANewLabelAndNobodyElse(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_PORT_AUTHORITY), h.join("c", pb.Role_ROLE_PORT_AUTHORITY)
	h.join("client", pb.Role_ROLE_OPERATOR)
	somebody := h.join("somebody", pb.Role_ROLE_PORT_AUTHORITY)
	toB, toC := b.open(t, live, viaGRPC), c.open(t, live, viaNATS)
	r := a.must(firstReport("b"))
	toB.got(r.GetReportId())
	follow := func(label pb.TlpLabel, sequence uint32, to ...string) *pb.Report {
		f := firstReport(to...)
		f.CaseId, f.Sequence, f.Stage, f.Tlp, f.Relabels = r.GetCaseId(), sequence, pb.Stage_STAGE_FOLLOW_UP, label, r.GetReportId()
		return f
	}
	stranger := follow(pb.TlpLabel_TLP_LABEL_CLEAR, 2, "c")
	_, err := b.submit(stranger, newID())
	requireReason(t, err, "CASE_UNKNOWN")
	stranger.CaseId, stranger.Sequence, stranger.Stage = newID(), 1, pb.Stage_STAGE_PRELIMINARY
	_, err = b.submit(stranger, newID())
	requireReason(t, err, "RELABELS_UNKNOWN")

	wider := follow(pb.TlpLabel_TLP_LABEL_CLEAR, 2, "c")
	a.must(wider)
	d := toB.delivery()
	require.Equal(t, r.GetReportId(), d.GetReportId())
	require.Equal(t, pb.TlpLabel_TLP_LABEL_CLEAR, d.GetRelabelling().GetTlp())
	require.Nil(t, d.GetEnvelope(), "the label and no content")
	require.Nil(t, d.GetCopy())
	require.Empty(t, d.GetSource())
	toB.confirm(d, stored)
	h.confirmed(b, live, 2)
	require.Nil(t, toC.got(wider.GetReportId()).GetRelabelling(), "c never had the report whose label changed")
	requireCopy(t, c, r.GetReportId(), false)
	requireCopy(t, b, wider.GetReportId(), false)
	_, err = download(b, wider.GetReportId(), bytes.Repeat([]byte{1}, 32))
	requireReason(t, err, "NOT_FOUND")

	// The label in force decides from now on.
	derived := firstReport("a")
	derived.Tlp, derived.DerivedFrom = pb.TlpLabel_TLP_LABEL_CLEAR, []string{r.GetReportId()}
	b.must(derived)
	_, err = b.forward(r.GetReportId(), "somebody")
	require.NoError(t, err, "under TLP:CLEAR")
	given := somebody.open(t, live, viaGRPC).got(r.GetReportId())
	require.Equal(t, uint64(1), given.GetDeliverySequence(), "the first that it hears of the case")
	require.Equal(t, "b", given.GetCopy().GetForwardedBy())
	narrower := follow(pb.TlpLabel_TLP_LABEL_AMBER, 3, "c")
	a.must(narrower)
	toB.confirm(toB.delivery(), stored)
	toC.got(narrower.GetReportId())
	check := func() {
		t.Helper()
		again := proto.CloneOf(derived)
		again.ReportId, again.CaseId = newID(), newID()
		_, err := b.submit(again, newID())
		requireReason(t, err, "LABEL_LOOSER_THAN_SOURCE")
		_, err = b.forward(r.GetReportId(), "client")
		requireReason(t, err, "NOT_YOURS_TO_GIVE")
	}
	check()
	require.Empty(t, toC.rest())
	h.restart(nil)
	b.dial()
	check()
}

func TestALateComerIsGivenTheBacklogOfTheOpenLabels(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("terminal-kita", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_PORT_AUTHORITY)
	open := func(label pb.TlpLabel, community string) *pb.Report {
		r := incident()
		r.Tlp, r.CommunityId = label, community
		return r
	}
	clear := a.must(open(pb.TlpLabel_TLP_LABEL_CLEAR, ""))
	green := a.must(open(pb.TlpLabel_TLP_LABEL_GREEN, "testport"))
	amber := a.must(incident("b"))
	c := h.join("late", pb.Role_ROLE_OPERATOR)
	s := c.open(t, live, viaGRPC)
	for i, want := range []*pb.Report{clear, green} {
		d := s.got(want.GetReportId())
		require.Equal(t, uint64(i+1), d.GetDeliverySequence())
		require.Equal(t, "BACKLOG", d.GetCopy().GetGrounds()[0].GetRule())
		require.Equal(t, pb.Flow_FLOW_PEER, d.GetCopy().GetFlow())
		requireNothingOf(t, encoded(t, d), "terminal-kita", "canary", "北埠頭")
	}
	h.confirmed(c, live, 2)
	check := func() {
		t.Helper()
		requireCopy(t, c, clear.GetReportId(), true)
		requireCopy(t, c, green.GetReportId(), true)
		requireCopy(t, c, amber.GetReportId(), false)
	}
	check()
	require.Empty(t, s.rest())
	h.restart(nil)
	c.dial()
	a.dial()
	check()
	next := incident("late")
	a.must(next)
	s = c.open(t, live, viaNATS)
	require.Equal(t, uint64(3), s.got(next.GetReportId()).GetDeliverySequence(), "the backlog comes once")
	resp, err := a.hub.ListReceipts(context.Background(), &pb.ListReceiptsRequest{Lane: live, ReportId: clear.GetReportId()})
	require.NoError(t, err)
	require.Len(t, resp.GetCopies(), 2, "the source sees who got it later")
}

func TestARecipientPassesOnToWhomTheRulesAllow(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, kan := h.join("a", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY)
	client, stranger := h.join("client", pb.Role_ROLE_OPERATOR), h.join("stranger", pb.Role_ROLE_OPERATOR)
	bureau, police := h.join("seibi", pb.Role_ROLE_REGIONAL_DEVELOPMENT), h.join("kenkei", pb.Role_ROLE_POLICE)
	second := h.join("second", pb.Role_ROLE_OPERATOR)
	h.set("kanri", func(m *pb.MemberSet) { m.Clients = []string{"client"} })
	h.set("client", func(m *pb.MemberSet) { m.Clients = []string{"second"} })
	r := incident("kanri")
	r.Impact.Business = pb.BusinessImpact_BUSINESS_IMPACT_STOPPED // R3, and the task of R4
	r.OnwardPermissions = []*pb.OnwardPermission{{By: "port_authority", To: "police"}}
	a.must(r)
	id := r.GetReportId()

	_, err := kan.forward(id, "stranger")
	requireReason(t, err, "NOT_YOURS_TO_GIVE")
	_, err = kan.forward(id, "client", "stranger")
	requireReason(t, err, "NOT_YOURS_TO_GIVE")
	requireCopy(t, client, id, false)
	_, err = kan.forward(id, "a")
	requireReason(t, err, "NOT_YOURS_TO_GIVE") // not a word that it is the source
	_, err = kan.forward(id)
	requireReason(t, err, "RECIPIENTS_MISSING")

	preview, err := kan.instruct(kan.instruction(id, forwardTo("client")), true)
	require.NoError(t, err)
	requireCopy(t, client, id, false)
	toClient := client.open(t, live, viaNATS)
	given, err := kan.forward(id, "client")
	require.NoError(t, err)
	given.DecideTime = preview.GetDecideTime()
	require.True(t, proto.Equal(preview, given), "the preview is the gate:\n%v\n%v", preview, given)
	d := toClient.got(id)
	require.Equal(t, "kanri", d.GetCopy().GetForwardedBy())
	require.Equal(t, "CLIENT", d.GetCopy().GetGrounds()[0].GetRule())
	require.Equal(t, pb.Flow_FLOW_PEER, d.GetCopy().GetFlow(), "at most what the way to it lets through")
	requireNothingOf(t, encoded(t, d), "canary", "北埠頭")
	_, err = kan.forward(id, "client")
	requireReason(t, err, "RECIPIENT_HAS_IT")
	_, err = client.forward(id, "second")
	requireReason(t, err, "NOT_YOURS_TO_GIVE")

	for to, rule := range map[string]string{"seibi": "R4", "kenkei": "ONWARD_PERMISSION"} {
		given, err := kan.forward(id, to)
		require.NoError(t, err)
		require.Equal(t, rule, given.GetCopies()[0].GetGrounds()[0].GetRule())
		require.Equal(t, pb.Flow_FLOW_AUTHORITY, given.GetCopies()[0].GetFlow())
		require.True(t, given.GetCopies()[0].GetNamed())
	}
	check := func() {
		t.Helper()
		for _, m := range []*testMember{client, bureau, police} {
			c := requireCopy(t, m, id, true)
			require.Equal(t, "kanri", c.GetForwardedBy())
		}
		requireCopy(t, stranger, id, false)
		requireCopy(t, second, id, false)
		resp, err := a.hub.ListReceipts(context.Background(), &pb.ListReceiptsRequest{Lane: live, ReportId: id})
		require.NoError(t, err)
		var who []string
		for _, c := range resp.GetCopies() {
			who = append(who, c.GetCopy().GetMember())
		}
		require.ElementsMatch(t, []string{"kanri", "client", "seibi", "kenkei"}, who, "the source sees where it went")
	}
	check()
	h.restart(nil)
	for _, m := range []*testMember{a, kan, client, bureau, police, stranger, second} {
		m.dial()
	}
	check()
	_, err = kan.forward(id, "client")
	requireReason(t, err, "RECIPIENT_HAS_IT")
	whole := bureau.open(t, live, viaGRPC).got(id)
	require.Equal(t, "a", whole.GetSource())
	_, err = seal.Verify(whole.GetEnvelope(), seal.LiveReportType, a.signing.Public().(ed25519.PublicKey))
	require.NoError(t, err)
}

func TestAForwardedCopyHoldsAtMostWhatTheHoldersHolds(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("terminal-kita", pb.Role_ROLE_OPERATOR, "ops")
	peer := h.join("b", pb.Role_ROLE_OPERATOR, "ops")
	ministry := h.join("mlit", pb.Role_ROLE_MINISTRY, "ops")
	nda := h.join("expert", pb.Role_ROLE_EXPERT, "ops")
	h.set("expert", func(m *pb.MemberSet) { m.Nda = true })
	r := incident("b")
	r.Tlp, r.CommunityId, r.Reason = pb.TlpLabel_TLP_LABEL_GREEN, "ops", pb.Reason_REASON_SHARING
	r.Attachments = []*pb.Part{attach(t, a, live, []byte("damage"))}
	a.must(r)
	own := requireCopy(t, peer, r.GetReportId(), true)
	_, err := peer.forward(r.GetReportId(), "mlit", "expert")
	require.NoError(t, err)
	for _, m := range []*testMember{ministry, nda} {
		c := requireCopy(t, m, r.GetReportId(), true)
		require.False(t, c.GetNamed())
		d := m.open(t, live, viaGRPC).got(r.GetReportId())
		requireNothingOf(t, encoded(t, d), "terminal-kita", "canary", "北埠頭", seal.KeyID(a.signing.Public().(ed25519.PublicKey)))
		require.Empty(t, c.GetParts())
		_, err := download(m, r.GetReportId(), r.Attachments[0].GetDigest())
		requireReason(t, err, "NOT_FOUND")
	}
	require.Equal(t, own.GetPayloadDigest(), requireCopy(t, ministry, r.GetReportId(), true).GetPayloadDigest(), "the very copy of the holder")
}

func TestUnderTheChathamHouseRuleNobodyPassesTheNameOn(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, kan := h.join("terminal-kita", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY)
	bureau := h.join("seibi", pb.Role_ROLE_REGIONAL_DEVELOPMENT)
	r := incident("kanri")
	r.Impact.Business, r.Restrictions = pb.BusinessImpact_BUSINESS_IMPACT_STOPPED, &pb.Restrictions{ChathamHouse: true}
	a.must(r)
	_, err := kan.forward(r.GetReportId(), "seibi")
	require.NoError(t, err)
	d := bureau.open(t, live, viaNATS).got(r.GetReportId())
	requireNothingOf(t, encoded(t, d), "terminal-kita", "canary", "北埠頭")
	require.True(t, d.GetHandling().GetRestrictions().GetChathamHouse(), "the rule travels with it")
}

func TestForbiddenForwardsAreRefusedAtTheHub(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, kan := h.join("a", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY)
	h.join("client", pb.Role_ROLE_OPERATOR)
	h.set("kanri", func(m *pb.MemberSet) {
		m.Clients, m.SecrecyRegimes = []string{"client"}, []pb.SecrecyRegime{contract}
	})
	for name, change := range map[string]func(*pb.Report){
		"no copies": func(r *pb.Report) { r.Restrictions = &pb.Restrictions{NoCopy: true} }, "not to be taken out": func(r *pb.Report) { r.Restrictions = &pb.Restrictions{NoExport: true} },
		"no distribution": func(r *pb.Report) { r.Restrictions = &pb.Restrictions{NoDistribution: true} }, "a duty of secrecy": func(r *pb.Report) { r.SecrecyRegime = contract },
	} {
		r := incident("kanri")
		change(r)
		a.must(r)
		_, err := kan.forward(r.GetReportId(), "client")
		require.Contains(t, requireReason(t, err, "FORWARD_FORBIDDEN").Violations[0].English, name)
	}
}

func TestAStepIsDecidedOnceAndOnRecord(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, kan := h.join("a", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY)
	r := incident("kanri")
	r.Impact.Business, r.Cause.Class = pb.BusinessImpact_BUSINESS_IMPACT_STOPPED, pb.CauseClass_CAUSE_CLASS_INTENTIONAL
	a.must(r)
	id := r.GetReportId()
	first := a.instruction(id, decide("R5", pb.NoticeState_NOTICE_STATE_DECLINED))
	answer, err := a.instruct(first, false)
	require.NoError(t, err)
	require.Empty(t, answer.GetCopies())
	again := func() {
		t.Helper()
		same, err := a.instruct(first, false)
		require.NoError(t, err)
		require.True(t, proto.Equal(answer, same))
	}
	again()
	for what, env := range map[string]*pb.Envelope{
		"STEP_UNKNOWN":  a.instruction(id, decide("R99", pb.NoticeState_NOTICE_STATE_DONE)),
		"VALUE_UNKNOWN": a.instruction(id, decide("R5", pb.NoticeState_NOTICE_STATE_NOT_NEEDED)),
		"FIELD_MISSING": a.instruction(id, func(*pb.Instruction) {}),
		"ID_INVALID":    a.instruction(id, func(in *pb.Instruction) { in.InstructionId = "x"; decide("R5", pb.NoticeState_NOTICE_STATE_DONE)(in) }),
		"LANE_MISSING":  a.instruction(id, func(in *pb.Instruction) { in.Lane = 0; decide("R5", pb.NoticeState_NOTICE_STATE_DONE)(in) }),
	} {
		_, err := a.instruct(env, false)
		requireReason(t, err, what)
	}
	_, err = a.instruct(kan.instruction(id, decide("R5", pb.NoticeState_NOTICE_STATE_DONE)), false)
	requireReason(t, err, "SIGNATURE_INVALID")
	// The recipient decides its own task, and not the steps of the source.
	_, err = kan.instruct(kan.instruction(id, decide("R4", pb.NoticeState_NOTICE_STATE_DONE)), false)
	require.NoError(t, err)
	_, err = kan.instruct(kan.instruction(id, decide("R5", pb.NoticeState_NOTICE_STATE_DONE)), false)
	requireReason(t, err, "STEP_UNKNOWN")
	_, err = a.instruct(a.instruction(id, decide("R4", pb.NoticeState_NOTICE_STATE_DONE)), false)
	requireReason(t, err, "STEP_UNKNOWN")
	_, err = a.instruct(a.instruction(id, decide("R5", pb.NoticeState_NOTICE_STATE_DONE)), false)
	require.NoError(t, err, "a person may think again; both are on record")
	h.restart(nil)
	a.dial()
	again()
	extended := h.extensions(id)
	require.Len(t, extended, 3)
	for _, x := range extended {
		require.Equal(t, pb.ExtensionCause_EXTENSION_CAUSE_DECIDED, x.GetCause())
		signer := map[string]*testMember{"a": a, "kanri": kan}[x.GetBy()]
		_, err := seal.VerifyInstruction(x.GetInstruction(), signer.signing.Public().(ed25519.PublicKey))
		require.NoError(t, err, "as its node signed it")
	}
}

// extensions is every record that extends a report, in the journal's order.
func (h *testHub) extensions(report string) (all []*pb.PlanExtended) {
	h.t.Helper()
	l := h.lanes[live]
	e, _ := l.index.report(report)
	positions := slices.Clone(e.extensions)
	for _, d := range e.decisions {
		positions = append(positions, d.position)
	}
	slices.Sort(positions)
	for _, position := range positions {
		_, x, err := h.recordAt(context.Background(), l, position)
		require.NoError(h.t, err)
		require.Equal(h.t, report, x.GetReportId())
		all = append(all, x)
	}
	return all
}

func TestAnInstructionsIdIsNeverUsedForAnother(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, kan, other := h.join("a", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY), h.join("other", pb.Role_ROLE_PORT_AUTHORITY)
	client := h.join("client", pb.Role_ROLE_OPERATOR)
	h.join("client-2", pb.Role_ROLE_OPERATOR)
	h.set("kanri", func(m *pb.MemberSet) { m.Clients = []string{"client", "client-2"} })
	r := a.must(incident("kanri", "other"))
	env := kan.instruction(r.GetReportId(), forwardTo("client"))
	first, err := kan.instruct(env, false)
	require.NoError(t, err)
	same, err := kan.instruct(env, false)
	require.NoError(t, err)
	require.True(t, proto.Equal(first, same))
	in, err := seal.VerifyInstruction(env, kan.signing.Public().(ed25519.PublicKey))
	require.NoError(t, err)
	changed := kan.instruction(r.GetReportId(), func(other *pb.Instruction) { other.InstructionId = in.GetInstructionId(); forwardTo("client-2")(other) })
	_, err = kan.instruct(changed, false)
	require.Equal(t, codes.AlreadyExists, requireReason(t, err, "ID_REUSED").Code)
	_, err = other.instruct(seal.Sign(other.signing, seal.InstructionType, env.GetPayload()), false)
	requireReason(t, err, "ID_REUSED")
	require.Len(t, h.extensions(r.GetReportId()), 1)
	requireCopy(t, client, r.GetReportId(), true)
}

func TestAForwardIsOnDiskOnceWhateverTheJournalDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind  string
		fault fault
	}{
		"append lost": {"append LIVE_REPORTS", lostOnTheWay}, "answer lost": {"append LIVE_REPORTS", answerLost},
		"not durable": {"durable", lostOnTheWay}, "durable untold": {"durable", answerLost},
	} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, crash %v", name, crash), func(t *testing.T) {
				f := once(c.kind, c.fault)
				h := newHub(t, f.between)
				a, kan, client := h.join("a", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY), h.join("client", pb.Role_ROLE_OPERATOR)
				h.set("kanri", func(m *pb.MemberSet) { m.Clients = []string{"client"} })
				r := a.must(incident("kanri"))
				s := kan.open(t, live, viaGRPC)
				s.got(r.GetReportId())
				h.confirmed(kan, live, 1) // nothing else is being written now
				s.close()
				env := kan.instruction(r.GetReportId(), forwardTo("client"))
				f.arm(true)
				_, err := kan.instruct(env, false)
				require.Error(t, err)
				require.Zero(t, f.left())
				if crash {
					_ = h.stop() // the loop that failed to make it durable has ended with that error
					h.start(nil)
					kan.dial()
					client.dial()
				}
				given, err := kan.instruct(env, false)
				require.NoError(t, err)
				require.Len(t, given.GetCopies(), 1)
				again, err := kan.instruct(env, false)
				require.NoError(t, err)
				require.True(t, proto.Equal(given, again))
				h.onDisk(func() {
					require.Len(t, h.extensions(r.GetReportId()), 1)
				})
				client.dial()
				d := client.open(t, live, viaGRPC).got(r.GetReportId())
				require.Equal(t, uint64(1), d.GetDeliverySequence())
				require.True(t, bytes.Equal(given.GetCopies()[0].GetPayloadDigest(), sum(d.GetEnvelope().GetPayload())))
			})
		}
	}
}

func sum(data []byte) []byte { s := sha256.Sum256(data); return s[:] }

// onDisk opens the hub again from disk and checks.
func (h *testHub) onDisk(check func()) {
	h.t.Helper()
	_ = h.stop()
	h.start(nil)
	check()
}

// publish makes a key for sealing, of the node or of a person, and publishes it.
func (m *testMember) publish(person string) *seal.PrivateKey {
	m.t.Helper()
	key, err := seal.GenerateKey(seal.MLKEM768P256)
	require.NoError(m.t, err)
	env, err := seal.SignKey(m.signing, &pb.KeyEntry{
		Member: m.id.member, Node: m.id.number, Person: person, Suite: key.Public().Suite(), PublicKey: key.Public().Bytes(),
		CreateTime: timestamppb.New(time.Now().Add(-time.Second)), ExpireTime: timestamppb.New(time.Now().Add(24 * time.Hour)),
	})
	require.NoError(m.t, err)
	_, err = m.hub.SetKey(context.Background(), &pb.SetKeyRequest{Key: env})
	require.NoError(m.t, err)
	return key
}

// sealer seals reports as a node does.
type sealer struct {
	t    testing.TB
	from *testMember
	keys map[int][]byte // content keys by variant
}

// sealed makes the sealed form of a report, by the plan that the hub previews.
func (s *sealer) sealed(r *pb.Report) *pb.SealedReport {
	s.t.Helper()
	resp, err := s.from.hub.PlanReport(context.Background(), &pb.PlanReportRequest{Outline: r.Outline()})
	require.NoError(s.t, err)
	out := &pb.SealedReport{Outline: r.Outline(), Suite: seal.SealedSuite(seal.MLKEM768P256)}
	s.keys = map[int][]byte{}
	for _, c := range resp.GetPlan().GetCopies() {
		s.add(out, r, c)
	}
	return out
}

// add makes the form and the wraps of one copy.
func (s *sealer) add(out *pb.SealedReport, r *pb.Report, c *pb.Copy) {
	s.t.Helper()
	i := variantFor(out, c)
	v := seal.Variant{Report: r.GetReportId(), Lane: r.GetLane(), Flow: c.GetFlow(), Named: c.GetNamed()}
	if i < 0 {
		form, err := anonymizer.Project(r, c.GetFlow(), nil)
		require.NoError(s.t, err)
		inner, salt, key := encoded(s.t, form.Report), seal.NewSalt(), seal.NewContentKey()
		cipher, err := seal.SealContent(key, v, seal.Content, encoded(s.t, &pb.SealedContent{Salt: salt, Report: inner}))
		require.NoError(s.t, err)
		part := attach(s.t, s.from, r.GetLane(), cipher)
		i = len(out.Variants)
		s.keys[i] = key
		out.Variants = append(out.Variants, &pb.SealedVariant{Flow: c.GetFlow(), Named: c.GetNamed(), Content: part, Commitment: seal.Commitment(salt, inner)})
	}
	members, err := s.from.hub.ListMembers(context.Background(), &pb.ListMembersRequest{})
	require.NoError(s.t, err)
	for _, m := range members.GetMembers() {
		for _, k := range m.GetKeys() {
			e := k.GetEntry()
			forIt := e.GetMember() == c.GetMember() && (len(c.GetPersons()) == 0 && e.GetPerson() == "" || slices.Contains(c.GetPersons(), e.GetPerson()))
			if !forIt {
				continue
			}
			h := seal.Holder{Member: e.GetMember(), Person: e.GetPerson(), Node: e.GetNode()}
			if h.Person != "" {
				h.Node = 0
			}
			to, err := seal.NewPublicKey(e.GetSuite(), e.GetPublicKey())
			require.NoError(s.t, err)
			wrapped, err := seal.Wrap(to, s.keys[i], v, out.Variants[i].GetContent().GetDigest(), h)
			require.NoError(s.t, err)
			out.Wraps = append(out.Wraps, &pb.Wrap{Member: h.Member, Person: h.Person, Node: h.Node, KeyId: seal.KeyID(e.GetPublicKey()), Variant: uint32(i), SealedKey: wrapped})
		}
	}
}

func (m *testMember) submitSealed(s *pb.SealedReport) error {
	m.t.Helper()
	_, err := m.submitBytes(encoded(m.t, s), seal.SealedReportType(s.GetOutline().GetLane()), newID())
	return err
}

// opened is what a person or node reads of a sealed delivery.
func opened(t testing.TB, m *testMember, key *seal.PrivateKey, person string, d *pb.Delivery) *pb.Report {
	t.Helper()
	payload := d.GetEnvelope().GetPayload()
	s := new(pb.SealedReport)
	require.NoError(t, proto.Unmarshal(payload, s))
	wraps := s.GetWraps()
	if d.GetInstruction() != nil {
		in := new(pb.Instruction)
		require.NoError(t, proto.Unmarshal(d.GetInstruction().GetPayload(), in))
		wraps = append(wraps, in.GetForward().GetWraps()...)
		s.Variants = append(s.Variants, in.GetForward().GetVariants()...)
	}
	for _, w := range wraps {
		if w.GetMember() != m.id.member || w.GetPerson() != person || int(w.GetVariant()) >= len(s.Variants) {
			continue
		}
		v := s.GetVariants()[w.GetVariant()]
		cipher, err := download(m, d.GetReportId(), v.GetContent().GetDigest())
		require.NoError(t, err)
		place := seal.Variant{Report: d.GetReportId(), Lane: d.GetLane(), Flow: v.GetFlow(), Named: v.GetNamed()}
		content, err := key.Unwrap(w.GetSealedKey(), place, v.GetContent().GetDigest(), seal.Holder{Member: w.GetMember(), Person: w.GetPerson(), Node: w.GetNode()})
		require.NoError(t, err)
		plain, err := seal.OpenContent(content, place, seal.Content, cipher)
		require.NoError(t, err)
		inner, r := new(pb.SealedContent), new(pb.Report)
		require.NoError(t, proto.Unmarshal(plain, inner))
		require.NoError(t, proto.Unmarshal(inner.GetReport(), r))
		require.Equal(t, v.GetCommitment(), seal.Commitment(inner.GetSalt(), inner.GetReport()))
		return r
	}
	require.FailNow(t, "no wrap for it")
	return nil
}

func red(r *pb.Report, to ...string) *pb.Report {
	r.Tlp, r.Recipients = pb.TlpLabel_TLP_LABEL_RED, nil
	for _, id := range to {
		member, person, _ := strings.Cut(id, "/")
		r.Recipients = append(r.Recipients, &pb.Recipient{Member: member, Person: person})
	}
	return r
}

func TestTheHubRefusesToReadWhatMustBeSealed(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_PORT_AUTHORITY)
	strict := firstReport("b")
	strict.Tlp = pb.TlpLabel_TLP_LABEL_AMBER_STRICT
	for _, r := range []*pb.Report{red(firstReport(), "b/ciso"), strict} {
		_, err := a.submit(r, newID())
		requireReason(t, err, "LABEL_NEEDS_SEAL")
		_, err = a.hub.PlanReport(context.Background(), &pb.PlanReportRequest{Report: r})
		requireReason(t, err, "LABEL_NEEDS_SEAL")
		_, err = a.hub.PlanReport(context.Background(), &pb.PlanReportRequest{Outline: r.Outline()})
		require.NoError(t, err)
	}
	require.Empty(t, h.stored(live))
}

func TestASealedReportReachesThePersonsNamedAndTheHubReadsNothing(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, kan := h.join("terminal-kita", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY)
	b, c := h.join("terminal-minami", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_PORT_AUTHORITY)
	kanKey, bKey := kan.publish("ciso"), b.publish("ciso")
	b.publish("")
	c.publish("ciso")
	r := red(incident(), "kanri/ciso", "terminal-minami/ciso")
	s := &sealer{t: t, from: a}
	sealed := s.sealed(r)
	require.Len(t, sealed.GetVariants(), 2)
	require.NoError(t, a.submitSealed(sealed))

	whole := kan.open(t, live, viaNATS).got(r.GetReportId())
	_, err := seal.VerifySealed(whole.GetEnvelope(), live, a.signing.Public().(ed25519.PublicKey))
	require.NoError(t, err)
	require.Equal(t, []string{"ciso"}, whole.GetCopy().GetPersons())
	require.Equal(t, "canary-title", opened(t, kan, kanKey, "ciso", whole).GetTitle())

	d := b.open(t, live, viaGRPC).got(r.GetReportId())
	requireNothingOf(t, encoded(t, d), "terminal-kita", "kanri", "北埠頭", seal.KeyID(a.signing.Public().(ed25519.PublicKey)), string(a.signing.Public().(ed25519.PublicKey)))
	projected := opened(t, b, bKey, "ciso", d)
	require.Equal(t, "shared-technique", projected.GetAttackTechnical().GetText())
	require.Empty(t, projected.GetTitle())
	require.Nil(t, projected.GetReporter())
	_, err = seal.Verify(d.GetEnvelope(), seal.LiveSealedCopyType, h.key.Public().(ed25519.PublicKey))
	require.NoError(t, err)

	// Each reads its own form and no other, and nobody else any.
	for _, v := range sealed.GetVariants() {
		for m, own := range map[*testMember]bool{kan: v.GetFlow() == pb.Flow_FLOW_AUTHORITY, b: v.GetFlow() == pb.Flow_FLOW_PEER, c: false} {
			_, err := download(m, r.GetReportId(), v.GetContent().GetDigest())
			if own {
				require.NoError(t, err)
			} else {
				requireReason(t, err, "NOT_FOUND")
			}
		}
	}
	requireCopy(t, c, r.GetReportId(), false)
	require.NoError(t, h.stop())
	requireNothingIn(t, h.dir, "canary-title", "canary-summary", "canary-response", "shared-technique")
}

// requireNothingIn searches every file below a folder.
func requireNothingIn(t testing.TB, dir string, texts ...string) {
	t.Helper()
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		requireNothingOf(t, data, texts...)
		return err
	}))
	require.Greater(t, files, 3)
}

func TestSealsThatDoNotFitThePlanAreSentBack(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, kan, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY), h.join("b", pb.Role_ROLE_OPERATOR)
	c := h.join("c", pb.Role_ROLE_PORT_AUTHORITY)
	profile := testProfile()
	profile.Persons = append(profile.Persons, &pb.Person{Id: "desk", Name: "波止 花子"})
	_, err := kan.hub.SetProfile(context.Background(), &pb.SetProfileRequest{Profile: profile})
	require.NoError(t, err)
	for _, m := range []*testMember{kan, b, c} {
		m.publish("ciso")
		m.publish("")
	}
	kan.publish("desk")
	s := &sealer{t: t, from: a}
	fresh := func() *pb.SealedReport { return s.sealed(red(incident(), "kanri/ciso", "b/ciso")) }
	require.NoError(t, a.submitSealed(fresh()))
	wrapOf := func(r *pb.SealedReport, member string) *pb.Wrap {
		return r.Wraps[slices.IndexFunc(r.Wraps, func(w *pb.Wrap) bool { return w.GetMember() == member })]
	}
	keyOf := func(m, person string) string {
		for _, k := range h.directory().members[m].GetKeys() {
			if k.GetEntry().GetPerson() == person {
				return seal.KeyID(k.GetEntry().GetPublicKey())
			}
		}
		return ""
	}
	for name, broke := range map[string]func(*pb.SealedReport){
		"no wrap for a person who is named": func(r *pb.SealedReport) {
			r.Wraps = slices.DeleteFunc(r.Wraps, func(w *pb.Wrap) bool { return w.GetMember() == "b" })
		},
		"a wrap for a member that gets no copy": func(r *pb.SealedReport) {
			w := proto.CloneOf(wrapOf(r, "kanri"))
			w.Member, w.KeyId = "c", keyOf("c", "ciso")
			r.Wraps = append(r.Wraps, w)
		},
		"a wrap for a person who is not named": func(r *pb.SealedReport) {
			w := proto.CloneOf(wrapOf(r, "kanri"))
			w.Person, w.KeyId = "desk", keyOf("kanri", "desk")
			r.Wraps = append(r.Wraps, w)
		},
		"a wrap for a node under TLP:RED": func(r *pb.SealedReport) {
			w := proto.CloneOf(wrapOf(r, "kanri"))
			w.Person, w.Node, w.KeyId = "", 1, keyOf("kanri", "")
			r.Wraps = append(r.Wraps, w)
		},
		"a wrap to a key that nobody published": func(r *pb.SealedReport) { wrapOf(r, "kanri").KeyId = "0123456789abcdef" },
		"a wrap to the key of another person":   func(r *pb.SealedReport) { wrapOf(r, "kanri").KeyId = keyOf("kanri", "desk") },
		"the whole report for a peer": func(r *pb.SealedReport) {
			wrapOf(r, "b").Variant = wrapOf(r, "kanri").GetVariant()
		},
		"a form for nobody": func(r *pb.SealedReport) {
			v := proto.CloneOf(r.Variants[0])
			v.Flow = pb.Flow_FLOW_PUBLIC
			v.Content = attach(t, a, live, []byte("another form of the content, sealed"))
			r.Variants = append(r.Variants, v)
		},
	} {
		r := fresh()
		broke(r)
		require.Equal(t, codes.FailedPrecondition, requireReason(t, a.submitSealed(r), "PLAN_CHANGED").Code, name)
	}
	for name, broke := range map[string]func(*pb.SealedReport){
		"a wrap of a form that is not there": func(r *pb.SealedReport) { wrapOf(r, "kanri").Variant = 7 },
		"no form for the peers": func(r *pb.SealedReport) {
			r.Variants = slices.DeleteFunc(r.Variants, func(v *pb.SealedVariant) bool { return v.GetFlow() == pb.Flow_FLOW_PEER })
		},
		"two forms alike": func(r *pb.SealedReport) {
			v := proto.CloneOf(r.Variants[0])
			v.Content = attach(t, a, live, []byte("another form of the content, sealed"))
			r.Variants = append(r.Variants, v)
		},
		"no commitment": func(r *pb.SealedReport) { r.Variants[0].Commitment = nil },
	} {
		r := fresh()
		broke(r)
		require.Equal(t, codes.InvalidArgument, requireReason(t, a.submitSealed(r), "VARIANTS_INVALID").Code, name)
	}
	both := s.sealed(red(incident(), "kanri/ciso", "kanri/desk", "b/ciso"))
	one := proto.CloneOf(both)
	one.Wraps = slices.DeleteFunc(one.Wraps, func(w *pb.Wrap) bool { return w.GetPerson() == "desk" })
	requireReason(t, a.submitSealed(one), "PLAN_CHANGED")
	require.NoError(t, a.submitSealed(both))
	open := fresh()
	open.Outline.Tlp, open.Outline.Recipients = pb.TlpLabel_TLP_LABEL_AMBER, []*pb.Recipient{{Member: "kanri"}}
	requireReason(t, a.submitSealed(open), "SEALED_WITHOUT_NEED")
	none := fresh()
	none.Outline = nil
	_, err = a.submitBytes(encoded(t, none), seal.LiveSealedReportType, newID())
	requireReason(t, err, "FIELD_MISSING")
	moved := fresh()
	moved.Outline.Lane = pb.Lane_LANE_EXERCISE
	_, err = a.submitBytes(encoded(t, moved), seal.LiveSealedReportType, newID())
	requireReason(t, err, "LANE_MISMATCH")
	missing := fresh()
	missing.Variants[0].Content = part32()
	requireReason(t, a.submitSealed(missing), "PART_MISSING")
	require.Len(t, h.stored(live), 2)
}

func part32() *pb.Part {
	return &pb.Part{Digest: sum([]byte(newID())), Size: 100, Class: pb.DisclosureClass_DISCLOSURE_CLASS_DAMAGE}
}

func TestOnlyTheSourceGivesASealedReportToOneMore(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, kan, late := h.join("a", pb.Role_ROLE_OPERATOR), h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY), h.join("late", pb.Role_ROLE_PORT_AUTHORITY)
	never := h.join("never", pb.Role_ROLE_PORT_AUTHORITY)
	kan.publish("ciso")
	lateKey := late.publish("ciso")
	never.publish("ciso")
	h.set("kanri", func(m *pb.MemberSet) { m.Clients = []string{"late"} })
	r := red(incident(), "kanri/ciso")
	s := &sealer{t: t, from: a}
	sealed := s.sealed(r)
	require.NoError(t, a.submitSealed(sealed))
	_, err := kan.forward(r.GetReportId(), "late/ciso")
	requireReason(t, err, "ONLY_THE_SOURCE_FORWARDS")
	_, err = a.forward(r.GetReportId(), "late/ciso")
	requireReason(t, err, "PLAN_CHANGED")
	_, err = a.forward(r.GetReportId(), "late")
	requireReason(t, err, "RED_NEEDS_PERSONS")
	rewrap := func(member string) *pb.Envelope {
		more := proto.CloneOf(sealed)
		more.Wraps = nil
		s.add(more, r, &pb.Copy{Member: member, Persons: []string{"ciso"}, Flow: pb.Flow_FLOW_AUTHORITY, Named: true})
		return a.instruction(r.GetReportId(), func(in *pb.Instruction) {
			forwardTo("late/ciso")(in)
			in.GetForward().Wraps = more.Wraps
		})
	}
	_, err = a.instruct(rewrap("never"), false)
	requireReason(t, err, "PLAN_CHANGED")
	requireCopy(t, late, r.GetReportId(), false)
	_, err = a.instruct(rewrap("late"), false)
	require.NoError(t, err)
	d := late.open(t, live, viaGRPC).got(r.GetReportId())
	require.Equal(t, "canary-title", opened(t, late, lateKey, "ciso", d).GetTitle())
	requireCopy(t, never, r.GetReportId(), false)
	h.restart(nil)
	late.dial()
	requireCopy(t, late, r.GetReportId(), true)
}

func TestWhatDerivesIsHeldAgainstTheLabelInForce(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_PORT_AUTHORITY)
	h.join("c", pb.Role_ROLE_PORT_AUTHORITY)
	first := firstReport("b", "c")
	first.Restrictions = &pb.Restrictions{NoExport: true, Text: "社外秘"}
	a.must(first)
	looser := firstReport()
	looser.Tlp, looser.DerivedFrom = pb.TlpLabel_TLP_LABEL_CLEAR, []string{first.GetReportId()}
	_, err := b.submit(looser, newID())
	said := requireReason(t, err, "LABEL_LOOSER_THAN_SOURCE")
	require.Contains(t, said.Violations[0].English, tlp.Amber.String())
	same := firstReport("c")
	same.DerivedFrom = []string{first.GetReportId()}
	env, err := b.submit(same, newID())
	require.NoError(t, err)
	require.True(t, h.accepts(env).GetPlan().GetHandling().GetRestrictions().GetNoExport(), "the restrictions are inherited")
	require.Equal(t, "社外秘", h.accepts(env).GetPlan().GetHandling().GetRestrictions().GetText())
}
