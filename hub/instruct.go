package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/check"
	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// InstructReport passes a report on, or records what became of a step of its
// plan. It is decided, appended and made durable as a submit is; the record
// holds the instruction as its node signed it.
func (h *Hub) InstructReport(ctx context.Context, req *pb.InstructReportRequest) (*pb.InstructReportResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	in, env, err := openInstruction(req.GetInstruction(), from)
	if err != nil {
		return nil, err
	}
	// Whoever may not see it does not wait for those who may: that would tell.
	if _, _, _, err := h.visible(ctx, in.GetLane(), in.GetReportId(), from); err != nil {
		return nil, err
	}
	unlock, err := h.locks.lock(ctx, "report/"+in.GetReportId())
	if err != nil {
		return nil, err
	}
	defer unlock()
	l, a, grants, err := h.visible(ctx, in.GetLane(), in.GetReportId(), from)
	if err != nil {
		return nil, err
	}
	held := first(grants)
	if first, err := h.instructed(ctx, l, in, from.id.member, env); first != nil || err != nil {
		return h.extended(ctx, l, first, err)
	}
	x := &pb.PlanExtended{
		Lane: l.kind, ReportId: in.GetReportId(), ExtensionId: in.GetInstructionId(), By: from.id.member,
		Instruction: env, InstructionKey: from.key,
	}
	var keep []made
	if forward := in.GetForward(); forward != nil {
		x.Cause = pb.ExtensionCause_EXTENSION_CAUSE_FORWARDED
		keep, err = h.forward(ctx, l, a, held, forward, from, x, req.GetPreview())
	} else {
		x.Cause = pb.ExtensionCause_EXTENSION_CAUSE_DECIDED
		if l.index.decided(in.GetReportId(), from.id.member) >= maxDecisions {
			return nil, rpc.Refuse(codes.ResourceExhausted, "DECISIONS_TOO_MANY", "instruction",
				"この報告の仕事についての記録が多すぎます。続きは電話などで連絡してください。",
				"Too much has been recorded about the steps of this report. Use another channel.")
		}
		x.Plan, err = decideStep(a, held, in.GetDecide(), h.world())
	}
	if err != nil || req.GetPreview() {
		return &pb.InstructReportResponse{Plan: x.GetPlan()}, err
	}
	release, err := l.parts.claim(a.GetSource(), sealedParts(in.GetForward().GetVariants()))
	if err != nil {
		return nil, err
	}
	if err := h.keep(ctx, l, a.GetSource(), keep); err != nil {
		release()
		return nil, err
	}
	err = h.extend(ctx, l, x)
	if err != nil {
		release()
	}
	h.log.InfoContext(ctx, "instruction carried out", "report", in.GetReportId(), "copies", len(x.GetPlan().GetCopies()), "err", err)
	return h.extended(ctx, l, x, err)
}

// maxDecisions bounds what one member records about the steps of one report:
// the journal keeps it all.
const maxDecisions = 200

// first is the copy that a member got first; nil for the source.
func first(grants []*grant) *grant {
	if len(grants) == 0 {
		return nil
	}
	return grants[0]
}

// openInstruction verifies and checks an instruction.
func openInstruction(env *pb.Envelope, from *sender) (*pb.Instruction, *pb.Envelope, error) {
	only, err := seal.Only(env, seal.InstructionType, from.key)
	in := new(pb.Instruction)
	if err == nil {
		err = proto.Unmarshal(only.GetPayload(), in)
	}
	if err != nil {
		return nil, nil, refusal([]rpc.Violation{violation("instruction", "SIGNATURE_INVALID",
			"署名が登録された鍵と一致しません。このノードの鍵を確かめてください。",
			"The signature does not verify with the registered key of this node.")})
	}
	bad := check.Message("instruction", in.ProtoReflect(), false)
	if !check.ID(in.GetReportId()) || !check.ID(in.GetInstructionId()) {
		bad = append(bad, violation("instruction.report_id", "ID_INVALID", "ID は小文字16進数32桁です。", "The id must be 32 lower-case hexadecimal digits."))
	}
	if in.GetAction() == nil {
		bad = append(bad, check.Missing("instruction.action"))
	}
	if len(bad) > 0 {
		return nil, nil, refusal(bad)
	}
	return in, only, nil
}

// instructed is the extension that was recorded under the same id before: the
// same bytes of the same member get the same answer, others are refused.
func (h *Hub) instructed(ctx context.Context, l *lane, in *pb.Instruction, by string, env *pb.Envelope) (*pb.PlanExtended, error) {
	r, err := h.journal.Last(ctx, l.reports, extensionKey(in.GetReportId(), in.GetInstructionId()))
	if errors.Is(err, journal.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable("look up instruction", err)
	}
	_, x, err := decoded(r)
	if err != nil {
		return nil, err
	}
	if x.GetBy() != by || !bytes.Equal(x.GetInstruction().GetPayload(), env.GetPayload()) {
		return nil, rpc.Refuse(codes.AlreadyExists, "ID_REUSED", "instruction_id",
			"同じ ID で別の指示が既に記録されています。", "Another instruction has been recorded under this id.")
	}
	l.index.extend(r.Seq, x)
	advance(&l.appended, r.Seq)
	return x, nil
}

// forward decides to whom a report goes on and what they get, and writes it
// into the extension.
func (h *Hub) forward(ctx context.Context, l *lane, a *pb.ReportAccepted, held *grant, f *pb.Forward, from *sender, x *pb.PlanExtended, preview bool) ([]made, error) {
	w := h.world()
	e, _ := l.index.report(a.GetReportId())
	handling, err := h.inForce(ctx, l, e, a)
	if err != nil {
		return nil, err
	}
	var own *pb.Copy
	if held != nil {
		own = held.copy
	}
	had, err := h.had(ctx, l, e, a, held, f.GetRecipients(), from.id.member)
	if err != nil {
		return nil, err
	}
	decided, bad := onward(a.GetOutline(), handling, w.dir.members[a.GetSource()], w.dir.members[from.id.member], own, f.GetRecipients(), had, w)
	if len(bad) == 0 {
		bad = w.namedInWords(decided, a.GetSource(), l.index.sourcesOf(a.GetOutline().GetDerivedFrom()))
	}
	if len(bad) > 0 {
		return nil, refusal(bad)
	}
	x.Plan = decided
	if a.GetSealed() && preview {
		return nil, nil // nothing is sealed yet
	}
	if a.GetSealed() {
		sealed := new(pb.SealedReport)
		if err := proto.Unmarshal(a.GetEnvelope().GetPayload(), sealed); err != nil {
			return nil, fmt.Errorf("read sealed report: %w", err)
		}
		if err := h.checkLate(sealed, f); err != nil {
			return nil, err
		}
		sealed.Variants, sealed.Wraps = append(sealed.GetVariants(), f.GetVariants()...), f.GetWraps()
		late := &pb.SealedReport{Outline: sealed.GetOutline(), Suite: sealed.GetSuite(), Wraps: f.GetWraps(), Variants: sealed.GetVariants()}
		if err := checkLateSeal(late, len(f.GetVariants()), decided, w); err != nil {
			return nil, err
		}
		x.Parts = sealedParts(f.GetVariants())
		out, err := h.composeSealed(l, decided, a.GetPayloadDigest(), late)
		x.Projections = out.projections
		return nil, err
	}
	base := content{digest: a.GetPayloadDigest(), names: w.namesOf(a.GetSource())}
	env := a.GetEnvelope()
	if held != nil {
		var err error
		if env, err = held.envelope(); err != nil {
			return nil, err
		}
		base.digest = held.digest()
	}
	base.report = new(pb.Report)
	if err := proto.Unmarshal(env.GetPayload(), base.report); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	base.bundle = h.bundleOf(ctx, l, a.GetSource(), base.report)
	// What a holder has whole, whom it passes it on to gets as the holder has it.
	for _, c := range decided.GetCopies() {
		if held != nil && c.GetFlow() == own.GetFlow() {
			c.PayloadDigest, c.Parts, c.Withheld, c.Generalised = own.GetPayloadDigest(), own.GetParts(), own.GetWithheld(), own.GetGeneralised()
			if p := projectionOf(held); p != nil {
				x.Projections = []*pb.Projection{p} // once, however many get it
			}
		}
	}
	out, bad, err := h.compose(l, decided, base)
	if err != nil {
		return nil, err
	}
	if len(bad) > 0 {
		return nil, refusal(bad)
	}
	x.Projections = append(x.Projections, out.projections...)
	x.Parts = out.parts()
	return out.made, nil
}

// projectionOf is the projection that a holder has; nil when it has the report
// as it was signed.
func projectionOf(g *grant) *pb.Projection {
	for _, p := range slices.Concat(g.accepted.GetProjections(), g.extended.GetProjections()) {
		if bytes.Equal(p.GetPayloadDigest(), g.digest()) {
			return p
		}
	}
	return nil
}

// had tells who has a copy already, as far as the one who asks may know: the
// source knows of all, a holder of those to whom it gave one itself. Persons of
// one member come to have theirs one by one.
func (h *Hub) had(ctx context.Context, l *lane, e entry, a *pb.ReportAccepted, held *grant, asked []*pb.Recipient, member string) (func(*pb.Recipient) bool, error) {
	if held != nil {
		given, err := h.givenBy(ctx, l, e, member)
		return func(r *pb.Recipient) bool { return slices.Contains(given, r.GetMember()) }, err
	}
	var copies []*pb.Copy
	if slices.ContainsFunc(asked, func(r *pb.Recipient) bool { return r.GetPerson() != "" }) {
		var err error
		if copies, err = h.copiesOf(ctx, l, a); err != nil {
			return nil, err
		}
	}
	return func(r *pb.Recipient) bool {
		if r.GetPerson() == "" {
			return l.index.holds(e, r.GetMember())
		}
		return slices.ContainsFunc(copies, func(c *pb.Copy) bool {
			return c.GetMember() == r.GetMember() && slices.Contains(c.GetPersons(), r.GetPerson())
		})
	}, nil
}

// checkLate finds what is wrong with the forms and wraps that an instruction
// adds to a sealed report.
func (h *Hub) checkLate(s *pb.SealedReport, f *pb.Forward) error {
	if len(s.GetVariants())+len(f.GetVariants()) > maxVariants {
		return planChanged()
	}
	var bad []rpc.Violation
	if err := seal.CheckSealed(f.GetVariants(), f.GetWraps(), len(s.GetVariants())); err != nil {
		bad = append(bad, variantsInvalid(err))
	}
	bad = append(bad, checkCiphertexts(f.GetVariants(), h.limits)...)
	if len(bad) > 0 {
		return refusal(bad)
	}
	return nil
}

// checkLateSeal is checkSeal for further recipients: forms that were there
// before need no new recipient, those that are new, the last ones, do.
func checkLateSeal(s *pb.SealedReport, fresh int, p *pb.Plan, w world) error {
	needed := proto.CloneOf(s)
	needed.Variants = nil
	index := map[int]uint32{}
	for i, v := range s.GetVariants() {
		if i >= len(s.GetVariants())-fresh || slices.ContainsFunc(p.GetCopies(), func(c *pb.Copy) bool { return c.GetFlow() == v.GetFlow() && c.GetNamed() == v.GetNamed() }) {
			index[i] = uint32(len(needed.Variants))
			needed.Variants = append(needed.Variants, v)
		}
	}
	for _, wrap := range needed.GetWraps() {
		i, ok := index[int(wrap.GetVariant())]
		if !ok {
			return planChanged()
		}
		wrap.Variant = i
	}
	return checkSeal(needed, p, w)
}

// decideStep records what became of a step of the plan: the source's own, or a
// task of the recipient that holds the copy.
func decideStep(a *pb.ReportAccepted, held *grant, d *pb.Decide, w world) (*pb.Plan, error) {
	steps := a.GetPlan().GetSteps()
	if held != nil {
		steps = held.copy.GetTasks()
	}
	if !slices.ContainsFunc(steps, func(s *pb.Step) bool { return s.GetGround().GetRule() == d.GetRule() }) {
		return nil, refusal([]rpc.Violation{violation("decide.rule", "STEP_UNKNOWN",
			fmt.Sprintf("この報告に、規則 %q で待っている仕事はありません。minato show で確かめてください。", d.GetRule()),
			fmt.Sprintf("No step of this report waits under rule %q. See: minato show", d.GetRule()))})
	}
	switch d.GetState() {
	case pb.NoticeState_NOTICE_STATE_DONE, pb.NoticeState_NOTICE_STATE_PLANNED, pb.NoticeState_NOTICE_STATE_DECLINED:
	default:
		return nil, refusal([]rpc.Violation{violation("decide.state", "VALUE_UNKNOWN",
			"済み (done)、予定 (planned)、行わない (declined) のいずれかにしてください。", "Say done, planned or declined.")})
	}
	return &pb.Plan{
		DirectoryRevision: w.dir.revision, PolicyVersion: w.policy.version, DecideTime: timestamppb.New(w.now), Handling: a.GetPlan().GetHandling(),
	}, nil
}

func extensionKey(report, extension string) string { return report + "." + extension }

// extend appends an extension; one that is there already stays as it is.
func (h *Hub) extend(ctx context.Context, l *lane, x *pb.PlanExtended) error {
	x.ExtendTime = timestamppb.New(time.Now())
	record, err := proto.Marshal(&pb.ReportRecord{Record: &pb.ReportRecord_Extended{Extended: x}})
	if err != nil {
		return fmt.Errorf("encode extension: %w", err)
	}
	position, err := h.writes.Append(ctx, l.reports, extensionKey(x.GetReportId(), x.GetExtensionId()), record)
	var exists *journal.ExistsError
	if errors.As(err, &exists) {
		return nil
	}
	if err != nil {
		return unavailable("append to journal", err)
	}
	advance(&l.appended, position)
	l.index.extend(position, x)
	return nil
}

// extended waits until an extension is durable and answers.
func (h *Hub) extended(ctx context.Context, l *lane, x *pb.PlanExtended, err error) (*pb.InstructReportResponse, error) {
	if err != nil {
		return nil, err
	}
	if err := h.durable(ctx, l); err != nil {
		return nil, err
	}
	return &pb.InstructReportResponse{Plan: x.GetPlan()}, nil
}

// backlog gives a member that has just joined what the policy lets it read of
// what was decided before. What fails is noted and tried at the next start.
func (h *Hub) backlog(ctx context.Context, member string) error {
	w := h.world()
	longest := time.Duration(0)
	for _, window := range w.policy.backlog {
		longest = max(longest, window)
	}
	if longest == 0 {
		return nil
	}
	for _, l := range h.lanes {
		for _, id := range l.index.since(w.now.Add(-longest), pb.TlpLabel_TLP_LABEL_CLEAR, pb.TlpLabel_TLP_LABEL_GREEN) {
			if err := h.giveBacklog(ctx, l, id, member, w); err != nil {
				return fmt.Errorf("report %s: %w", id, err)
			}
		}
	}
	return nil
}

// joined is the position of a lane after which a member that is here gets
// everything by itself: where its first node joined.
func (d *directory) joined(member string, kind pb.Lane) uint64 {
	first := d.starts[nodeID{member, 1}]
	if kind == pb.Lane_LANE_EXERCISE {
		return first.exercise
	}
	return first.live
}

func (h *Hub) giveBacklog(ctx context.Context, l *lane, id, member string, w world) error {
	unlock, err := h.locks.lock(ctx, "report/"+id)
	if err != nil {
		return err
	}
	defer unlock()
	e, _ := l.index.report(id)
	if l.index.holds(e, member) || e.position > w.dir.joined(member, l.kind) {
		return nil
	}
	a, err := h.read(ctx, l, e.position)
	if err != nil {
		return err
	}
	if a.GetSealed() {
		return nil // relabelled since, but only its source can open it
	}
	handling, err := h.inForce(ctx, l, e, a)
	if err != nil {
		return err
	}
	p := backlog(a.GetOutline(), handling, a.GetSource(), w.dir.members[member], a.GetAcceptTime().AsTime(), w)
	if p == nil || len(w.namedInWords(p, a.GetSource(), l.index.sourcesOf(a.GetOutline().GetDerivedFrom()))) > 0 {
		return nil
	}
	r := new(pb.Report)
	if err := proto.Unmarshal(a.GetEnvelope().GetPayload(), r); err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	out, bad, err := h.compose(l, p, content{
		report: r, digest: a.GetPayloadDigest(), names: w.namesOf(a.GetSource()), bundle: h.bundleOf(ctx, l, a.GetSource(), r),
	})
	if err != nil || len(bad) > 0 {
		return err // nothing that would help it
	}
	if err := h.keep(ctx, l, a.GetSource(), out.made); err != nil {
		return err
	}
	return h.extend(ctx, l, &pb.PlanExtended{
		Lane: l.kind, ReportId: id, ExtensionId: "join-" + member, Cause: pb.ExtensionCause_EXTENSION_CAUSE_BACKLOG,
		Plan: p, Projections: out.projections, Parts: out.parts(),
	})
}

// ExplainReport tells the source why a member did or did not get a report, and
// a recipient why it got its own, by what was decided and, where nothing was,
// by the functions that decided, in the world of that moment.
func (h *Hub) ExplainReport(ctx context.Context, req *pb.ExplainReportRequest) (*pb.ExplainReportResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	l, a, grants, err := h.visible(ctx, req.GetLane(), req.GetReportId(), from)
	if err != nil {
		return nil, err
	}
	p := a.GetPlan()
	resp := &pb.ExplainReportResponse{DirectoryRevision: p.GetDirectoryRevision(), PolicyVersion: p.GetPolicyVersion(), DecideTime: p.GetDecideTime()}
	if held := first(grants); held != nil {
		if req.GetMember() != from.id.member {
			return nil, notFound()
		}
		if held.extended != nil {
			p = held.extended.GetPlan()
			resp = &pb.ExplainReportResponse{DirectoryRevision: p.GetDirectoryRevision(), PolicyVersion: p.GetPolicyVersion(), DecideTime: p.GetDecideTime()}
		}
		resp.Copy = held.told()
		return resp, nil
	}
	e, _ := l.index.report(req.GetReportId())
	if grants, err = h.grantsTo(ctx, l, e, a, req.GetMember()); err != nil {
		return nil, err
	}
	if g := first(grants); g != nil {
		resp.Copy = g.copy
		if g.extended != nil {
			resp.DecideTime = g.extended.GetPlan().GetDecideTime()
		}
		return resp, nil
	}
	if m, known := h.directory().members[req.GetMember()]; !known || m.GetState() == pb.MemberState_MEMBER_STATE_INVITED {
		return nil, rpc.Refuse(codes.NotFound, "MEMBER_UNKNOWN", "member",
			fmt.Sprintf("会員 %q はいません。一覧: minato members", req.GetMember()), fmt.Sprintf("There is no member %q. See: minato members", req.GetMember()))
	}
	then, err := h.directoryAt(ctx, p.GetDirectoryRevision())
	if err != nil {
		return nil, err
	}
	parents, err := h.parents(ctx, a.GetOutline(), from)
	if err != nil {
		return nil, err
	}
	resp.Omissions = leftOut(a.GetOutline(), a.GetSource(), parents, req.GetMember(), worldAt(then, p.GetDecideTime().AsTime()))
	return resp, nil
}

// directoryAt is the directory at a former revision, read from the journal.
func (h *Hub) directoryAt(ctx context.Context, revision uint64) (*directory, error) {
	if d := h.dir.Load(); d.revision == revision {
		return d, nil
	}
	return h.foldTo(ctx, newDirectory(), revision)
}
