"""`python -m lomas_gql` is the command `lomas-gql`."""

if __name__ == "__main__":
    # Only here: each worker process imports this module again, and needs no command line.
    from lomas_gql.cli import main

    main()
