package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) hubMembersCommand() *cobra.Command {
	var dir string
	c := a.command("members --dir D", about{
		short:   Text{"会員と接続の状態を表示します", "List the members and their connections"},
		example: "minato hub members --dir /var/lib/minato-hub",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		return a.withHub(c.Context(), dir, func(ctx context.Context, admin pb.AdminServiceClient) error {
			list := a.list("ID", a.t("役割", "role"), a.t("状態", "state"), a.t("ノード", "nodes"), a.t("接続", "sessions"), a.t("コミュニティ", "communities"),
				a.t("管轄・指定・顧客", "standing"), a.t("名称", "name"))
			for req := (&pb.ListMemberStatesRequest{}); ; {
				page, err := admin.ListMemberStates(ctx, req, patient)
				if err != nil {
					return err
				}
				for _, s := range page.GetMembers() {
					if a.json {
						if err := a.emitFull(s); err != nil {
							return err
						}
						continue
					}
					m := s.GetMember()
					if err := list.add(m.GetId(), word(m.GetRole()).in(a.lang), word(m.GetState()).in(a.lang),
						fmt.Sprint(len(m.GetNodes())), fmt.Sprint(s.GetSessions()), strings.Join(m.GetCommunities(), ","), a.standing(m), plain(m.GetName())); err != nil {
						return err
					}
				}
				if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
					return list.end()
				}
			}
		})
	})
	a.hubDirFlag(c, &dir)
	return c
}
