from components.simulate.stage import STAGE

if __name__ == "__main__":
    STAGE.main()
