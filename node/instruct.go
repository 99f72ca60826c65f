package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// What a member asks of the hub for a report that it holds: the node signs it,
// the hub decides by the functions that decide a submit.

// held is a report that is here, published or received.
type held struct {
	id   string
	lane pb.Lane
	own  *outboxRow // nil when it was received
}

// hold finds a report by its id or the start of it. What was published here
// comes before what was received.
func (n *Node) hold(ctx context.Context, idOrPrefix string) (held, error) {
	id, err := n.store.resolve(ctx, idOrPrefix)
	if err != nil {
		return held{}, err
	}
	row, err := n.store.outboxRow(ctx, id)
	if err == nil {
		return held{id: id, lane: row.lane, own: &row}, nil
	}
	if !errors.Is(err, errNotFound) {
		return held{}, err
	}
	lane, err := n.laneOf(ctx, id)
	return held{id: id, lane: lane}, err
}

// ExplainReport asks the hub why a member did or did not get a report.
func (n *Node) ExplainReport(ctx context.Context, req *pb.NodeServiceExplainReportRequest) (*pb.NodeServiceExplainReportResponse, error) {
	h, err := n.hold(ctx, req.GetReport())
	if err != nil {
		return nil, err
	}
	member := req.GetMember()
	if member == "" {
		member = n.id.member
	}
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	resp, err := n.hub.ExplainReport(call, &pb.ExplainReportRequest{Lane: h.lane, ReportId: h.id, Member: member})
	if err != nil {
		return nil, hubError(err)
	}
	return &pb.NodeServiceExplainReportResponse{Explanation: resp}, nil
}

// ForwardReport passes a report on. The source of a sealed one gives the
// content key to the further recipients; nobody else can.
func (n *Node) ForwardReport(ctx context.Context, req *pb.ForwardReportRequest) (*pb.ForwardReportResponse, error) {
	h, err := n.hold(ctx, req.GetReport())
	if err != nil {
		return nil, err
	}
	if len(req.GetRecipients()) == 0 {
		return nil, rpc.Refuse(codes.InvalidArgument, "RECIPIENTS_MISSING", "recipients",
			"渡す相手を --to で指定してください。", "Say to whom with --to.")
	}
	if h.own == nil {
		if err := n.mayPassOn(ctx, h, req.GetRecipients()); err != nil {
			return nil, err
		}
	}
	if h.own != nil && h.own.receipt == nil {
		return nil, wrongState(h.id, "has not been accepted by the hub yet", "まだハブに受領されていません")
	}
	i := n.instruction(h, req.GetPerson())
	forward := &pb.Forward{Recipients: req.GetRecipients()}
	i.Action = &pb.Instruction_Forward{Forward: forward}
	if h.own == nil || !h.own.sealed {
		plan, err := n.instruct(ctx, i, req.GetPreview())
		return &pb.ForwardReportResponse{Plan: plan}, err
	}
	for try := 1; ; try++ {
		plan, err := n.forwardSealed(ctx, i, forward, h, req.GetPreview())
		if !planChanged(err) || try == seals {
			return &pb.ForwardReportResponse{Plan: plan}, err
		}
	}
}

// mayPassOn refuses here what a label given on this node forbids; the hub does
// not know of it. Under AMBER that leaves the registered clients of the own
// member and those to whom a task of the copy asks to pass it, under GREEN those
// whom the directory lists in the report's community.
func (n *Node) mayPassOn(ctx context.Context, h held, to []*pb.Recipient) error {
	r, err := n.store.rowOf(ctx, h.lane, h.id)
	if err != nil {
		return err
	}
	if expired(r.item.GetRestrictions(), n.store.now()) {
		return runOut(r.item)
	}
	if !r.narrowed {
		return nil
	}
	label, _, err := tlp.Parse(r.item.GetTlp())
	if err != nil || label.NeedsSeal() {
		return rpc.Refuse(codes.FailedPrecondition, "LABEL_NARROWED", "report",
			fmt.Sprintf("この報告はこのノードで %s に狭められているため、ほかに渡せません。", r.item.GetTlp()),
			fmt.Sprintf("This report was narrowed to %s on this node and is not passed on.", r.item.GetTlp()))
	}
	members, _, err := n.store.directory(ctx)
	if err != nil {
		return err
	}
	may := func(string) bool { return true }
	switch label {
	case tlp.Amber:
		may = func(member string) bool {
			return slices.Contains(memberOf(members, n.id.member).GetClients(), member) ||
				slices.ContainsFunc(r.item.GetTasks(), func(s *pb.Step) bool { return slices.Contains(s.GetMembers(), member) })
		}
	case tlp.Green:
		report, d, err := n.store.reportOf(ctx, h.lane, h.id)
		if err != nil {
			return err
		}
		community := d.GetHandling().GetCommunityId()
		if community == "" {
			community = report.GetCommunityId()
		}
		if community != "" { // else the port's own, which has every member
			may = func(member string) bool {
				return slices.Contains(memberOf(members, member).GetCommunities(), community)
			}
		}
	}
	var outside []string
	for _, one := range to {
		if !may(one.GetMember()) {
			outside = append(outside, shown(one.GetMember()))
		}
	}
	if len(outside) == 0 {
		return nil
	}
	who := strings.Join(outside, ", ")
	return rpc.Refuse(codes.FailedPrecondition, "LABEL_NARROWED", "recipients",
		fmt.Sprintf("この報告はこのノードで %s に狭められているため、%s には渡せません。%s を宛先から外してください。", r.item.GetTlp(), who, who),
		fmt.Sprintf("This report was narrowed to %s on this node and is not passed on to %s. Leave out %s.", r.item.GetTlp(), who, who))
}

// forwardSealed asks the hub what it would decide, wraps the content key for
// those who would get a copy, and then asks for the decision.
func (n *Node) forwardSealed(ctx context.Context, i *pb.Instruction, forward *pb.Forward, h held, preview bool) (*pb.Plan, error) {
	r := new(pb.Report)
	if err := proto.Unmarshal(h.own.report, r); err != nil {
		return nil, damaged(n.store.path, err)
	}
	have, err := sealedIn(*h.own)
	if err != nil {
		return nil, err
	}
	if len(h.own.contentKeys) != len(have.GetVariants()) {
		return nil, damaged(n.store.path, errors.New("content keys of a sealed report"))
	}
	forward.Wraps, forward.Variants = nil, nil
	plan, err := n.instruct(ctx, i, true)
	if err != nil {
		return nil, err
	}
	if err := n.knowDirectory(ctx, plan.GetDirectoryRevision()); err != nil {
		return nil, hubError(err)
	}
	if preview {
		if _, err := n.formsOf(ctx, r, plan.GetCopies()); err != nil {
			return nil, err
		}
		_, err := n.holdersOfAll(ctx, plan.GetCopies())
		return plan, err
	}
	made, err := n.seal(ctx, r, plan.GetCopies(), have.GetVariants(), h.own.contentKeys)
	if err != nil {
		return nil, err
	}
	for _, v := range made.variants {
		for _, p := range ciphertexts(v) {
			if err := n.uploadPart(ctx, h.lane, p); err != nil {
				return nil, hubError(err)
			}
		}
	}
	forward.Wraps, forward.Variants = made.wraps, made.variants
	return n.instruct(ctx, i, false)
}

// DecideStep records what became of a step that waited for a person.
func (n *Node) DecideStep(ctx context.Context, req *pb.DecideStepRequest) (*pb.DecideStepResponse, error) {
	h, err := n.hold(ctx, req.GetReport())
	if err != nil {
		return nil, err
	}
	switch req.GetState() {
	case pb.NoticeState_NOTICE_STATE_DONE, pb.NoticeState_NOTICE_STATE_PLANNED, pb.NoticeState_NOTICE_STATE_DECLINED:
	default:
		return nil, rpc.Refuse(codes.InvalidArgument, "STATE_MISSING", "state",
			"済み (done)、予定 (planned)、行わない (declined) のいずれかを指定してください。", "Say done, planned or declined.")
	}
	i := n.instruction(h, req.GetPerson())
	i.Action = &pb.Instruction_Decide{Decide: &pb.Decide{Rule: req.GetRule(), State: req.GetState(), Note: req.GetNote()}}
	if _, err := n.instruct(ctx, i, false); err != nil {
		return nil, err
	}
	return &pb.DecideStepResponse{}, nil
}

// instruction begins one about a report.
func (n *Node) instruction(h held, person string) *pb.Instruction {
	return &pb.Instruction{Lane: h.lane, ReportId: h.id, InstructionId: randomID(), CreateTime: timestamppb.Now(), Person: person}
}

// instruct signs an instruction and asks the hub.
func (n *Node) instruct(ctx context.Context, i *pb.Instruction, preview bool) (*pb.Plan, error) {
	env, err := seal.SignInstruction(n.id.signing, i)
	if err != nil {
		return nil, err
	}
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	resp, err := n.hub.InstructReport(call, &pb.InstructReportRequest{Instruction: env, Preview: preview})
	if err != nil {
		return nil, hubError(err)
	}
	if !preview {
		n.log.InfoContext(ctx, "instruction accepted by the hub", "report", i.GetReportId(), "instruction", i.GetInstructionId())
	}
	return resp.GetPlan(), nil
}

// NarrowReport gives a received report a stricter label, on this node only.
func (n *Node) NarrowReport(ctx context.Context, req *pb.NarrowReportRequest) (*pb.NarrowReportResponse, error) {
	label := check.Label(req.GetTlp())
	if !label.Valid() {
		return nil, rpc.Refuse(codes.InvalidArgument, "TLP_MISSING", "tlp",
			"新しいラベルを指定してください。", "Give the new label.")
	}
	h, err := n.hold(ctx, req.GetReport())
	if err != nil {
		return nil, err
	}
	if h.own != nil {
		return nil, rpc.Refuse(codes.FailedPrecondition, "REPORT_OWN", "report",
			"これは自組織の報告です。ラベルの変更は minato report relabel で全員に伝えます。",
			"This report is our own. Change its label for everybody: minato report relabel")
	}
	r, err := n.store.rowOf(ctx, h.lane, h.id)
	if err != nil {
		return nil, err
	}
	if now, _, err := tlp.Parse(r.item.GetTlp()); err != nil || label < now {
		return nil, rpc.Refuse(codes.FailedPrecondition, "LABEL_LOOSER", "tlp",
			fmt.Sprintf("今のラベル %s より緩くはできません。広げられるのは発信元だけです。", r.item.GetTlp()),
			fmt.Sprintf("The label cannot become looser than %s. Only the source may widen it.", r.item.GetTlp()))
	}
	if err := n.store.narrow(ctx, h.lane, h.id, label); err != nil {
		return nil, err
	}
	n.arrived.signal()
	if r, err = n.store.rowOf(ctx, h.lane, h.id); err != nil {
		return nil, err
	}
	return &pb.NarrowReportResponse{Item: r.item}, nil
}

// GetSealed reads a report that is sealed to a person whose key is not here.
func (n *Node) GetSealed(ctx context.Context, req *pb.GetSealedRequest) (*pb.GetSealedResponse, error) {
	h, err := n.hold(ctx, req.GetReport())
	if err != nil {
		return nil, err
	}
	if h.own == nil {
		item, err := n.store.item(ctx, h.lane, h.id)
		if err != nil {
			return nil, err
		}
		if expired(item.GetRestrictions(), n.store.now()) {
			return nil, runOut(item)
		}
		if item.GetSealed() {
			return n.sealedOf(ctx, h, req.GetPerson(), req.GetKeyId())
		}
	}
	return nil, rpc.Refuse(codes.FailedPrecondition, "NOT_SEALED", "report",
		"この報告は封をされていません。minato show で読めます。", "This report is not sealed. Read it with: minato show")
}

func (n *Node) sealedOf(ctx context.Context, h held, person, keyID string) (*pb.GetSealedResponse, error) {
	d, l, err := n.store.sealedDelivery(ctx, h.lane, h.id, person, keyID)
	if err != nil {
		return nil, err
	}
	content, err := n.store.readPart(ctx, l.variant.GetContent().GetDigest())
	if err != nil {
		return nil, err
	}
	return &pb.GetSealedResponse{Delivery: d, Content: content}, nil
}
