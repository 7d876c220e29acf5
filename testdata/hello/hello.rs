//! The program of the hello image: `hello write` leaves a greeting, `hello` prints it.

fn main() -> std::io::Result<()> {
    let greeting = "/greeting";
    if std::env::args().nth(1).as_deref() == Some("write") {
        let name = std::env::var("NAME").unwrap_or_default();
        return std::fs::write(greeting, format!("hello, {name}\n"));
    }
    print!("{}", std::fs::read_to_string(greeting)?);
    Ok(())
}
