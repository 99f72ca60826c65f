package anonymizer_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/anonymizer"
	pb "minato.example/proto/minato/v1"
)

// canary is the text that full puts into a field.
func canary(path string) string { return "<" + path + ">" }

// full is a report in which every field is set, every text to its own path in
// brackets. Each list has one entry, and the attachments one of each class.
func full() *pb.Report {
	r := &pb.Report{}
	fill(r.ProtoReflect(), "")
	r.Kind, r.Tlp, r.Stage = pb.Kind_KIND_INCIDENT, pb.TlpLabel_TLP_LABEL_AMBER, pb.Stage_STAGE_PRELIMINARY
	r.Consents = nil
	r.Attachments = nil
	for class := range pb.DisclosureClass_name {
		r.Attachments = append(r.Attachments, &pb.Part{
			Digest: digest(fmt.Sprint("attachment ", class)), Size: 1, MediaType: canary("attachments.media_type"),
			Name: canary("attachments.name"), Class: pb.DisclosureClass(class), Sanitised: true,
		})
	}
	slices.SortFunc(r.Attachments, func(a, b *pb.Part) int { return int(a.GetClass() - b.GetClass()) })
	r.AttackTechnical.StixBundle.Digest, r.AttackTechnical.StixBundle.Size = digest(bundle), uint64(len(bundle))
	return r
}

func digest(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// an instant that is not the start of anything.
var instant = time.Date(2026, 11, 25, 3, 4, 5, 6, time.UTC)

func fill(m protoreflect.Message, path string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := path + string(f.Name())
		var v protoreflect.Value
		switch f.Kind() {
		case protoreflect.StringKind:
			v = protoreflect.ValueOfString(canary(name))
		case protoreflect.BytesKind:
			v = protoreflect.ValueOfBytes(digest(name))
		case protoreflect.BoolKind:
			v = protoreflect.ValueOfBool(true)
		case protoreflect.EnumKind:
			v = protoreflect.ValueOfEnum(1)
		case protoreflect.Uint32Kind:
			v = protoreflect.ValueOfUint32(7)
		case protoreflect.Uint64Kind:
			v = protoreflect.ValueOfUint64(7)
		case protoreflect.MessageKind:
			var inner protoreflect.Message
			if f.IsList() {
				inner = m.NewField(f).List().NewElement().Message()
			} else {
				inner = m.NewField(f).Message()
			}
			if f.Message().FullName() == "google.protobuf.Timestamp" {
				inner = timestamppb.New(instant).ProtoReflect()
			} else {
				fill(inner, name+".")
			}
			v = protoreflect.ValueOfMessage(inner)
		default:
			panic("fill does not know " + f.Kind().String())
		}
		if f.IsList() {
			m.Mutable(f).List().Append(v)
		} else {
			m.Set(f, v)
		}
	}
}

// bundle holds an indicator, a vulnerability and a victim.
const bundle = `{"type":"bundle","id":"bundle--00000000-0000-4000-8000-000000000001","objects":[
{"type":"indicator","spec_version":"2.1","id":"indicator--00000000-0000-4000-8000-000000000002","created":"2026-11-25T03:04:05.000Z","modified":"2026-11-25T03:04:05.000Z","created_by_ref":"identity--00000000-0000-4000-8000-000000000003","name":"<stix.indicator>","pattern":"[ipv4-addr:value = '198.51.100.23']","pattern_type":"stix","valid_from":"2026-11-25T03:04:05Z"},
{"type":"vulnerability","spec_version":"2.1","id":"vulnerability--00000000-0000-4000-8000-000000000004","created":"2026-11-25T03:04:05.000Z","modified":"2026-11-25T03:04:05.000Z","name":"<stix.vulnerability>"},
{"type":"identity","spec_version":"2.1","id":"identity--00000000-0000-4000-8000-000000000003","created":"2026-11-25T03:04:05.000Z","modified":"2026-11-25T03:04:05.000Z","name":"<stix.identity>"}]}`

func project(t require.TestingT, r *pb.Report, flow pb.Flow) *anonymizer.Projected {
	var b []byte
	if r.GetAttackTechnical().GetStixBundle() != nil {
		b = []byte(bundle)
	}
	p, err := anonymizer.Project(r, flow, b)
	require.NoError(t, err)
	return p
}

// texts are the canaries in the bytes of a copy and its bundle, and the classes
// of its attachments.
func texts(t *testing.T, p *anonymizer.Projected) (all []string) {
	t.Helper()
	b, err := proto.Marshal(p.Report)
	require.NoError(t, err)
	for _, in := range [][]byte{b, p.Bundle} {
		for piece := range bytes.SplitSeq(in, []byte("<")) {
			if name, _, ok := bytes.Cut(piece, []byte(">")); ok && !slices.Contains(all, string(name)) {
				all = append(all, string(name))
			}
		}
	}
	for _, a := range p.Report.GetAttachments() {
		all = append(all, "attached "+strings.TrimPrefix(a.GetClass().String(), "DISCLOSURE_CLASS_"))
	}
	slices.Sort(all)
	return all
}

// leaves are the fields that are set, lists without index.
func leaves(m protoreflect.Message, path string, all map[string]bool) map[string]bool {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := path + string(f.Name())
		all[name] = true
		switch {
		case f.Message() == nil || f.Message().FullName() == "google.protobuf.Timestamp":
		case f.IsList():
			for i := range v.List().Len() {
				leaves(v.List().Get(i).Message(), name+".", all)
			}
		default:
			leaves(v.Message(), name+".", all)
		}
		return true
	})
	return all
}

func set(r *pb.Report) map[string]bool { return leaves(r.ProtoReflect(), "", map[string]bool{}) }

// The table of what to share, report and publish, information by information:
// ○ goes, △ goes in part or coarser, — does not go. Where the scheme says "△
// depends" the column says what it depends on here:
//
//   - 脆弱性悪用の情報 reaches peers when the source consents that experts have
//     it (see TestVulnerabilitiesReachPeersAfterAdvice), since it waits for the
//     advice of an expert body;
//   - experts are told of victim, damage and contacts under a non-disclosure
//     agreement only;
//   - of 被害内容 the anonymous report has the band, which is the state of the
//     business; 業種／規模 has no field;
//   - 攻撃技術情報 is not published unless somebody writes a notice for it.
const sharing = `
information           | fields                                                                                                    | peers | expert | under NDA | anonymous | 公表
malware, hashes       | attack_technical.malware attack_technical.indicators attack_technical.stix_bundle                        | ○○△   | ○○△    | ○○△       | ○○△       | ———
不正通信先            | attack_technical.indicators.value attack_technical.ddos                                                  | ○○    | ○○     | ○○        | ○○        | ——
TTP, tools, other     | attack_technical.techniques attack_technical.tools attack_technical.text                                 | ○○○   | ○○○    | ○○○       | ○○○       | ———
ransom                | attack_technical.ransom.note attack_technical.ransom.extension attack_technical.ransom.family attack_technical.ransom.intrusion_path | △○○○ | △○○○ | ○○○○ | △○○○ | ————
脆弱性悪用の情報      | attack_technical.vulnerabilities                                                                         | —     | ○      | ○         | ○         | ○
攻撃対象システム      | affected_systems.kind affected_systems.product affected_systems.version                                   | ○——   | ○○○    | ○○○       | ○——       | ○○○
攻撃のタイムライン    | attack_timeline.text attack_timeline.moment.time occurred.time recognised.time                           | ○△△△  | ○○○○   | ○○○○      | ○△△△      | ○○○○
被害組織名            | reporter.organisation place.terminal                                                                     | ——    | ——     | ○○        | ——        | ○○
被害内容              | title summary impact.business impact.users_effect personal_data                                           | ————— | —————  | ○○○○○     | ——○——     | ○○○○○
対応のタイムライン    | response_timeline.text response others_response recovery.expected                                        | ————  | ————   | ○○○○      | ————      | ○○○○
contacts              | reporter.contacts reporter.unit                                                                          | ——    | ——     | ○○        | ——        | ——
`

func TestEachFlowHoldsWhatTheTableOfTheSchemeSays(t *testing.T) {
	r := full()
	r.AttackTechnical.Ransom.Note = "ID: 0123456789abcdef <attack_technical.ransom.note>"
	columns := []pb.Flow{pb.Flow_FLOW_PEER, pb.Flow_FLOW_EXPERT, pb.Flow_FLOW_EXPERT_NDA, pb.Flow_FLOW_ANONYMOUS, pb.Flow_FLOW_PUBLIC}
	lines := strings.Split(strings.TrimSpace(sharing), "\n")
	require.Len(t, lines, 12)
	for _, line := range lines[1:] {
		cells := strings.Split(line, "|")
		fields := strings.Fields(cells[1])
		for i, flow := range columns {
			p := project(t, r, flow)
			original, copied := set(r), set(p.Report)
			signs := []rune(strings.TrimSpace(cells[i+2]))
			require.Len(t, signs, len(fields), "%s, %s", cells[0], flow)
			for i, field := range fields {
				require.True(t, original[field], field)
				what := fmt.Sprintf("%s: %s in %s", cells[0], field, flow)
				switch signs[i] {
				case '○':
					require.Truef(t, copied[field], what)
					require.Equal(t, valuesAt(r, field), valuesAt(p.Report, field), what)
				case '△':
					require.Truef(t, copied[field], what)
					require.NotEqual(t, valuesAt(r, field), valuesAt(p.Report, field), what)
				case '—':
					require.Falsef(t, copied[field], what)
				default:
					require.Fail(t, "a sign that the table does not have", what)
				}
			}
		}
	}
}

// valuesAt is what stands at a path, as text.
func valuesAt(r *pb.Report, path string) (all []string) {
	var walk func(m protoreflect.Message, names []string)
	walk = func(m protoreflect.Message, names []string) {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(names[0]))
		one := func(v protoreflect.Value) {
			switch {
			case len(names) > 1:
				walk(v.Message(), names[1:])
			case f.Message() != nil:
				b, err := proto.MarshalOptions{Deterministic: true}.Marshal(v.Message().Interface())
				if err != nil {
					panic(err)
				}
				all = append(all, hex.EncodeToString(b))
			default:
				all = append(all, v.String())
			}
		}
		switch {
		case !m.Has(f):
		case f.IsList():
			for i := range m.Get(f).List().Len() {
				one(m.Get(f).List().Get(i))
			}
		default:
			one(m.Get(f))
		}
	}
	walk(r.ProtoReflect(), strings.Split(path, "."))
	return all
}

func TestUsersLearnTheStateOfTheServiceAndNothingElse(t *testing.T) {
	p := project(t, full(), pb.Flow_FLOW_STATUS).Report
	require.Equal(t, []string{
		"case_id", "community_id", "impact.affected_services", "impact.users_effect", "onward_permissions.by", "onward_permissions.to",
		"relabels", "report_id", "restrictions.text",
	}, texts(t, &anonymizer.Projected{Report: p}))
	require.Equal(t, pb.BusinessImpact(1), p.GetImpact().GetBusiness())
	require.Equal(t, pb.RecoveryState(1), p.GetRecovery().GetState())
	require.True(t, p.GetRecovery().GetExpected().GetTime().AsTime().Equal(instant))
	require.Nil(t, p.GetRecovery().GetEarlierEstimates())
	require.Nil(t, p.GetEvent())
}

func TestAnAuthorityGetsTheReportItself(t *testing.T) {
	r := full()
	p := project(t, r, pb.Flow_FLOW_AUTHORITY)
	require.Same(t, r, p.Report)
	require.Equal(t, bundle, string(p.Bundle))
	require.Empty(t, p.Withheld)
	require.Empty(t, p.Generalised)
}

func TestAFlowThatIsNoneGetsNothing(t *testing.T) {
	for _, flow := range []pb.Flow{pb.Flow_FLOW_UNSPECIFIED, 99, -1} {
		p, err := anonymizer.Project(full(), flow, []byte(bundle))
		require.Error(t, err)
		require.Nil(t, p)
	}
}

// Unknown fields and values that this program does not know have no verdict.
func TestWhatIsUnknownDoesNotTravel(t *testing.T) {
	unknown := protowire.AppendTag(nil, 9999, protowire.BytesType)
	unknown = protowire.AppendString(unknown, "<unknown>")
	r := full()
	var spoil func(m protoreflect.Message)
	spoil = func(m protoreflect.Message) {
		m.SetUnknown(unknown)
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case f.Message() == nil:
			case f.IsList():
				for i := range v.List().Len() {
					spoil(v.List().Get(i).Message())
				}
			default:
				spoil(v.Message())
			}
			return true
		})
	}
	spoil(r.ProtoReflect())
	r.Event.Types = append(r.Event.Types, 4711)
	r.Spread.Risk = 4711
	for _, flow := range anonymizer.Flows {
		p := project(t, r, flow)
		require.NotContains(t, texts(t, p), "unknown", flow)
		require.NotContains(t, p.Report.GetEvent().GetTypes(), pb.EventType(4711))
		require.Zero(t, p.Report.GetSpread().GetRisk())
	}
}

func TestACopySharesNoMemoryWithTheReport(t *testing.T) {
	r := full()
	for _, flow := range anonymizer.Flows {
		p := project(t, r, flow)
		before, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		require.NoError(t, err)
		scramble(p.Report.ProtoReflect())
		after, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		require.NoError(t, err)
		require.Equal(t, before, after, flow)
	}
}

// scramble overwrites everything below a message.
func scramble(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() != nil && f.IsList():
			for i := range v.List().Len() {
				scramble(v.List().Get(i).Message())
			}
		case f.Message() != nil:
			scramble(v.Message())
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			v.List().Set(0, protoreflect.ValueOfString("scrambled"))
		case f.Kind() == protoreflect.BytesKind:
			clear(v.Bytes())
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString("scrambled"))
		}
		return true
	})
}
