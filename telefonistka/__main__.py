from telefonistka.cli import main

if __name__ == "__main__":
    main()
