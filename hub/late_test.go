package hub

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// publishKey publishes a key of the node, or of a person of its member.
func (m *testMember) publishKey(person string) *seal.PublicKey {
	m.t.Helper()
	key, err := seal.GenerateKey(seal.DHKEMP256)
	require.NoError(m.t, err)
	env, err := seal.SignKey(m.signing, &pb.KeyEntry{
		Member: m.id.member, Node: m.id.number, Person: person, Suite: key.Suite(), PublicKey: key.Public().Bytes(),
		CreateTime: timestamppb.Now(), ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	})
	require.NoError(m.t, err)
	_, err = m.hub.SetKey(context.Background(), &pb.SetKeyRequest{Key: env})
	require.NoError(m.t, err)
	return key.Public()
}

// variant uploads bytes that stand for a sealed form; the hub cannot tell.
func (m *testMember) variant(flow pb.Flow) *pb.SealedVariant {
	m.t.Helper()
	data := fmt.Appendf(nil, "%s %s, longer than nonce and tag together", newID(), flow)
	p := attach(m.t, m, pb.Lane_LANE_LIVE, data)
	commitment := sha256.Sum256(data)
	return &pb.SealedVariant{
		Flow: flow, Named: flow == pb.Flow_FLOW_AUTHORITY, Content: &pb.Part{Digest: p.GetDigest(), Size: p.GetSize()}, Commitment: commitment[:],
	}
}

func wrapFor(member, person string, key *seal.PublicKey) *pb.Wrap {
	w := &pb.Wrap{Member: member, Person: person, KeyId: key.ID(), SealedKey: []byte("sealed")}
	if person == "" {
		w.Node = 1
	}
	return w
}

// submitForms submits a report that the hub cannot read.
func (m *testMember) submitForms(r *pb.Report, variants []*pb.SealedVariant, wraps ...*pb.Wrap) error {
	payload, err := proto.Marshal(&pb.SealedReport{Outline: r.Outline(), Suite: seal.SealedSuite(seal.DHKEMP256), Variants: variants, Wraps: wraps})
	require.NoError(m.t, err)
	_, err = m.submitBytes(payload, seal.LiveSealedReportType, newID())
	return err
}

func late(report string, f *pb.Forward) *pb.Instruction {
	return &pb.Instruction{Lane: pb.Lane_LANE_LIVE, ReportId: report, InstructionId: newID(), Action: &pb.Instruction_Forward{Forward: f}}
}

func TestWhoReceivedASealedReportNeverPassesItOn(t *testing.T) {
	h := newHub(t, nil)
	a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_OPERATOR)
	keyB, keyC := b.publishKey(""), c.publishKey("")
	r := firstReport("b")
	r.Tlp, r.Consents = pb.TlpLabel_TLP_LABEL_AMBER_STRICT, &pb.Consents{PeerNamed: true, PeerDamage: true}
	require.NoError(t, a.submitForms(r, []*pb.SealedVariant{a.variant(pb.Flow_FLOW_AUTHORITY)}, wrapFor("b", "", keyB)))
	wider := follow(r)
	wider.Tlp, wider.Relabels = pb.TlpLabel_TLP_LABEL_CLEAR, r.GetReportId()
	_, err := a.submit(wider, "wider")
	require.NoError(t, err)

	// Wraps of its own making would give c a copy that c can only reject, and
	// would keep the source from giving it one.
	f := &pb.Forward{Recipients: []*pb.Recipient{{Member: "c"}}, Wraps: []*pb.Wrap{wrapFor("c", "", keyC)}}
	_, err = b.carryOut(late(r.GetReportId(), f))
	requireReason(t, err, "ONLY_THE_SOURCE_FORWARDS")
	_, err = a.carryOut(late(r.GetReportId(), f))
	require.NoError(t, err)
}

func TestALatePersonGetsASealedReportOnceAndNothingThatNobodyNeeds(t *testing.T) {
	h := newHub(t, nil)
	a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_OPERATOR)
	keyB, keyC := b.publishKey("ciso"), c.publishKey("ciso")
	r := firstReport("b")
	r.Tlp, r.Recipients[0].Person = pb.TlpLabel_TLP_LABEL_RED, "ciso"
	require.NoError(t, a.submitForms(r, []*pb.SealedVariant{a.variant(pb.Flow_FLOW_AUTHORITY)}, wrapFor("b", "ciso", keyB)))

	give := func(change func(*pb.Forward)) error {
		f := &pb.Forward{Recipients: []*pb.Recipient{{Member: "c", Person: "ciso"}}, Wraps: []*pb.Wrap{wrapFor("c", "ciso", keyC)}}
		change(f)
		_, err := a.carryOut(late(r.GetReportId(), f))
		return err
	}
	requireReason(t, give(func(f *pb.Forward) {
		f.Recipients[0].Member, f.Wraps = "b", []*pb.Wrap{wrapFor("b", "ciso", keyB)}
	}), "RECIPIENT_HAS_IT")
	for name, spoil := range map[string]func(*pb.Forward){
		"a form twice": func(f *pb.Forward) { v := a.variant(pb.Flow_FLOW_PEER); f.Variants = []*pb.SealedVariant{v, v} },
		"a form without a promise": func(f *pb.Forward) {
			v := a.variant(pb.Flow_FLOW_PEER)
			v.Commitment = nil
			f.Variants = []*pb.SealedVariant{v}
		},
		"a wrap beyond all measure": func(f *pb.Forward) { f.Wraps[0].SealedKey = make([]byte, 1<<20) },
		"a wrap of a missing form":  func(f *pb.Forward) { f.Wraps[0].Variant = 7 },
		"a form without its content": func(f *pb.Forward) {
			f.Variants = []*pb.SealedVariant{{Flow: pb.Flow_FLOW_PEER, Commitment: make([]byte, 32)}}
		},
	} {
		require.Equal(t, "VARIANTS_INVALID", requireReason(t, give(spoil), "VARIANTS_INVALID").Reason, name)
	}
	requireReason(t, give(func(f *pb.Forward) { f.Variants = []*pb.SealedVariant{a.variant(pb.Flow_FLOW_PEER)} }), "PLAN_CHANGED")
	require.NoError(t, give(func(*pb.Forward) {}))
	requireReason(t, give(func(*pb.Forward) {}), "RECIPIENT_HAS_IT")
}

func TestWhatAMemberRecordsAboutStepsIsBounded(t *testing.T) {
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	h.join("b", pb.Role_ROLE_OPERATOR)
	r := firstReport("b")
	_, err := a.submit(r, "1")
	require.NoError(t, err)
	decide := func() error {
		_, err := a.carryOut(&pb.Instruction{Lane: pb.Lane_LANE_LIVE, ReportId: r.GetReportId(), InstructionId: newID(),
			Action: &pb.Instruction_Decide{Decide: &pb.Decide{Rule: "R1", State: pb.NoticeState_NOTICE_STATE_DONE}}})
		return err
	}
	for range maxDecisions {
		require.NoError(t, decide())
	}
	requireReason(t, decide(), "DECISIONS_TOO_MANY")
	h.restart(nil)
	a.dial()
	requireReason(t, decide(), "DECISIONS_TOO_MANY")
	e, _ := h.lanes[pb.Lane_LANE_LIVE].index.report(r.GetReportId())
	require.Empty(t, e.extensions, "nobody who reads copies reads these")
}
