//! `--chmod`.

use crate::bench::{check, check_stage};

#[test]
fn an_octal_mode_is_that_of_everything_but_links() {
    check(
        "d/a=1@600 d/s/@700 d/s/b@755 d/l->a",
        "",
        "COPY --chmod=4750 d /t",
        "t/@750:0:0 t/a=1@4750:0:0 t/l->a t/s/@4750:0:0 t/s/b@4750:0:0",
    );
    check_stage("a=1@600:7:8", "", "COPY --chmod=0 a /b", "b=1@0:7:8");
}

#[test]
fn directories_that_lead_there_get_the_permissions_only() {
    check("a=1", "", "COPY --chmod=1711 a /x/y/", "x/@711:0:0 x/y/@711:0:0 x/y/a=1@1711:0:0");
    check("a=1", "x/", "COPY --chmod=700 a /x/y/b", "x/ x/y/@700:0:0 x/y/b=1@700:0:0");
    check("d/a=1", "x/@751", "COPY --chmod=600 d /x", "x/@751:0:0 x/a=1@600:0:0");
}

#[test]
fn symbols_change_the_mode_of_each_file_and_no_directory_that_leads_there() {
    check(
        "d/a@600 d/s/@700 d/x@711 d/l->a",
        "",
        "COPY --chmod=go=u-w,u+X d /y/t",
        "y/ y/t/ y/t/a y/t/l->a y/t/s/ y/t/x@755:0:0",
    );
    check("d/a@600", "", "COPY --parents --chmod=+t d/a /", "d/@1755:0:0 d/a@1600:0:0");
    check("", "", "COPY --chmod=a+x <<f=1 /", "f=1@755:0:0");
}

#[test]
fn it_does_not_concern_archives() {
    check("a.tar=tar b=plain", "", "ADD --chmod=700 a.tar /t/", "t/ t/member@644:5:5");
    check("b=plain", "", "ADD --chmod=700 b /t/", "t/@700:0:0 t/b=plain@700:0:0");
}
